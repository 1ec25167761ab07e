"""The secret of user tokens, and its rotation."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.api.http_server import Reply
from gateway.api.projects_service import OVERLAP_S
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from gateway.api.times import rfc3339_or_none
from router.model.errors import ErrorCode
from router.model.project import Scope


class UserSecretRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new secret; tokens of the one before stay valid for `overlap` seconds, a day by default."""

    overlap: Annotated[int, Meta(ge=0, le=604_800, description="0 to 604800 seconds")] = OVERLAP_S


class UserSecretView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The secret that signs user tokens, shown this once."""

    user_secret: str
    previous_until: datetime | None = None


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    return [
        Route(
            "POST",
            "/v1/projects/{project}/userSecret:rotate",
            _Handlers(services).rotate,
            "Give a project a new user secret; for a while tokens of both are taken.",
            Access.PROJECT,
            UserSecretRotation,
            UserSecretView,
            errors=(ErrorCode.INVALID_ARGUMENT, ErrorCode.NOT_FOUND),
            detail="Takes the scope `admin`. A project that was made before user secrets gets its "
            "first one here.",
        )
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._service = services.projects_service

    async def rotate(self, call: Call) -> Reply:
        project = call.project()
        await self._auth.app_server(call, project, Scope.ADMIN)
        body = await call.json(UserSecretRotation)
        rotated = await self._service.rotate_user_secret(project, body.overlap)
        until = rfc3339_or_none(rotated.previous_until_ms)
        return reply(UserSecretView(rotated.user_secret, until))
