"""Projects, their keys and service accounts, under the admin key."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.api.http_server import Reply
from gateway.api.projects_service import (
    ALL_SCOPES,
    CreatedProject,
    ServiceAccountFile,
)
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from gateway.api.times import rfc3339
from gateway.api.violations import refuse
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import ProjectId
from router.model.limits import ProjectLimits
from router.model.project import ApiKey, Project, Scope

_PROJECT: Final = "/v1/projects/{project}"
_MISSING: Final = (ErrorCode.NOT_FOUND,)


class NewProject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project to make; its id is made of its name."""

    name: Annotated[str, Meta(min_length=3, max_length=64, description="3 to 64 characters")]


class ProjectChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; `limits` as a whole: what is missing there is as the settings say."""

    limits: ProjectLimits | None = None


class ProjectView(msgspec.Struct, frozen=True):
    """A project; `limits` has what is set for it in the place of the gateway's settings."""

    project: str
    name: str
    created_at: datetime
    limits: ProjectLimits = ProjectLimits()


class ProjectList(msgspec.Struct, frozen=True):
    """All projects."""

    projects: list[ProjectView]


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make: `client` keys are public and only register devices."""

    scopes: list[Annotated[Scope, Meta(description="send, devices or admin")]] | None = None
    client: bool = False


class KeyView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key; `secret` only in the answer that made it."""

    id: str
    hint: str
    scopes: list[str]
    client: bool
    created_at: datetime
    secret: str = ""


class KeyList(msgspec.Struct, frozen=True):
    """The keys of a project."""

    keys: list[KeyView]


class Done(msgspec.Struct, frozen=True):
    """Nothing more to say."""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    return [*_project_routes(handlers), *_key_routes(handlers)]


def _project_routes(handlers: "_Handlers") -> list[Route]:
    admin = Access.ADMIN
    return [
        Route(
            "POST",
            "/v1/projects",
            handlers.create,
            "Make a project with an API key and a client key, shown this once.",
            admin,
            NewProject,
            CreatedProject,
            201,
            errors=(ErrorCode.INVALID_ARGUMENT, ErrorCode.ALREADY_EXISTS),
        ),
        Route("GET", "/v1/projects", handlers.list, "List the projects.", admin, None, ProjectList),
        Route(
            "GET",
            _PROJECT,
            handlers.get,
            "Read a project.",
            admin,
            None,
            ProjectView,
            errors=_MISSING,
        ),
        Route(
            "PATCH",
            _PROJECT,
            handlers.change,
            "Change a project's limits; they hold within five seconds.",
            admin,
            ProjectChange,
            ProjectView,
            errors=(ErrorCode.INVALID_ARGUMENT, *_MISSING),
        ),
        Route(
            "DELETE",
            _PROJECT,
            handlers.delete,
            "Delete a project; its keys stop working within five seconds.",
            admin,
            None,
            Done,
            errors=_MISSING,
        ),
    ]


def _key_routes(handlers: "_Handlers") -> list[Route]:
    admin = Access.ADMIN
    return [
        Route(
            "GET",
            f"{_PROJECT}/keys",
            handlers.keys,
            "List the keys.",
            admin,
            None,
            KeyList,
            errors=_MISSING,
        ),
        Route(
            "POST",
            f"{_PROJECT}/keys",
            handlers.create_key,
            "Make a key; its secret is shown this once.",
            admin,
            NewKey,
            KeyView,
            201,
            errors=(ErrorCode.INVALID_ARGUMENT, *_MISSING),
        ),
        Route(
            "DELETE",
            f"{_PROJECT}/keys/{{key}}",
            handlers.delete_key,
            "Revoke a key; it stops working within five seconds.",
            admin,
            None,
            Done,
            errors=_MISSING,
        ),
        Route(
            "POST",
            f"{_PROJECT}/serviceAccounts",
            handlers.create_service_account,
            "Make a service account; answers the JSON file that Google's SDKs read, this once.",
            admin,
            None,
            ServiceAccountFile,
            201,
            errors=(ErrorCode.INVALID_ARGUMENT, *_MISSING),
        ),
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._projects = services.projects
        self._service = services.projects_service
        self._endpoints = services.endpoints
        self._accounts = services.accounts

    async def create(self, call: Call) -> Reply:
        self._auth.admin(call)
        body = await call.json(NewProject)
        return reply(await self._service.create_project(body.name), 201)

    async def list(self, call: Call) -> Reply:
        self._auth.admin(call)
        return reply(ProjectList([_view(found) for found in await self._projects.list()]))

    async def get(self, call: Call) -> Reply:
        return reply(_view(await self._service.require(self._project(call))))

    async def change(self, call: Call) -> Reply:
        project = self._project(call)
        body = await call.json(ProjectChange)
        if body.limits is None:
            return reply(_view(await self._service.require(project)))
        return reply(_view(await self._service.set_limits(project, body.limits)))

    async def delete(self, call: Call) -> Reply:
        project = self._project(call)
        await self._service.require(project)
        await self._endpoints.remove_all(project)
        await self._accounts.remove_all(project)
        await self._projects.delete(project)
        await self._accounts.remove_all(project)  # what came until the project was marked as gone
        return reply(Done())

    async def keys(self, call: Call) -> Reply:
        project = self._project(call)
        await self._service.require(project)
        return reply(KeyList([_key(key) for key in await self._projects.keys(project)]))

    async def create_key(self, call: Call) -> Reply:
        project = self._project(call)
        body = await call.json(NewKey)
        default = frozenset({Scope.DEVICES}) if body.client else ALL_SCOPES
        scopes = default if body.scopes is None or body.client else frozenset(body.scopes)
        created = await self._service.create_key(project, scopes, client=body.client)
        return reply(_key(created.key, created.secret), 201)

    async def delete_key(self, call: Call) -> Reply:
        project = self._project(call)
        if not await self._service.remove_key(project, call.parameters[1]):
            raise PushError(ErrorCode.NOT_FOUND, "There is no such key.")
        return reply(Done())

    async def create_service_account(self, call: Call) -> Reply:
        project = self._project(call)
        if not (authority := call.authority()):
            raise refuse([FieldViolation("Host", "must name this gateway, for `token_uri`")])
        token_uri = f"{call.scheme()}://{authority}/oauth2/token"
        return reply(await self._service.create_service_account(project, token_uri), 201)

    def _project(self, call: Call) -> ProjectId:
        self._auth.admin(call)
        return call.project()


def _view(project: Project) -> ProjectView:
    return ProjectView(project.id, project.name, rfc3339(project.created_ms), project.limits)


def _key(key: ApiKey, secret: str = "") -> KeyView:
    scopes = sorted(scope.value for scope in key.scopes)
    return KeyView(key.id, key.hint, scopes, key.client, rfc3339(key.created_ms), secret)
