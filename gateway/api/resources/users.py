"""Users: the devices that are bound to one; the next stage is `router.binding`."""

import msgspec

from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from gateway.api.violations import refuse
from router.model.errors import ErrorCode, FieldViolation
from router.model.project import Scope
from router.policy.limits import user_violation


class UserDevices(msgspec.Struct, frozen=True):
    """The devices of a user, by id; none for a user that nobody has named."""

    user: str
    devices: list[str]


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    return [
        Route(
            "GET",
            "/v1/projects/{project}/users/{user}/devices",
            _Handlers(services).devices,
            "List the devices of a user.",
            Access.PROJECT,
            None,
            UserDevices,
            errors=(ErrorCode.INVALID_ARGUMENT,),
            detail="A slash in the user's name is percent-encoded.",
        )
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._bindings = services.audiences.bindings

    async def devices(self, call: Call) -> Reply:
        project = call.project()
        await self._auth.app_server(call, project, Scope.DEVICES)
        user = call.parameters[1]
        if (bad := user_violation(user)) is not None:
            raise refuse([FieldViolation("user", f"must be {bad.description}")])
        return reply(UserDevices(user, sorted(await self._bindings.devices(project, user))))
