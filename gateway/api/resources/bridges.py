"""Bridges: what a project gives to APNs, FCM, Web Push; the next stage is `router.bridging`."""

from datetime import datetime
from typing import Final

import msgspec

from gateway.api.fcm_model import JsonObject
from gateway.api.http_server import Reply
from gateway.api.request import MAX_JSON_BYTES, Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from gateway.api.times import rfc3339
from gateway.api.violations import load, refuse
from router.bridging.accounts import ProjectBridge
from router.model.bridge_state import BridgeTest
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import ProjectId
from router.model.project import Scope

_CLIENT_KEY: Final = "X-Client-Key"


class SuspensionView(msgspec.Struct, frozen=True):
    """Nothing goes to this audience: the provider refused the credentials there."""

    audience: str
    reason: str
    since: datetime


class TestView(msgspec.Struct, frozen=True):
    """How a test of the credentials ended."""

    ok: bool
    says: str
    time: datetime
    refused: bool
    """Whether the provider refused them; else, where they are not ok, it could not be asked."""


class BridgeView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bridge of a project; no answer holds its secrets."""

    name: str
    state: str = ""
    """ok; suspended, for one audience at least; closed, the credentials do not open."""
    details: dict[str, str] = {}
    """What is not secret of the credentials, for example the public key of Web Push."""
    advice: str = ""
    """What had better be given too."""
    created_at: datetime | None = None
    changed_at: datetime | None = None
    suspended: list[SuspensionView] = []
    last_test: TestView | None = None
    """Of these credentials; missing where they were never tested."""
    closed: str = ""
    """Why the credentials do not open."""


class BridgeList(msgspec.Struct, frozen=True):
    """The bridges of a project, by name."""

    bridges: list[BridgeView]


class BridgeDeleted(msgspec.Struct, frozen=True):
    """The bridge is gone, and its credentials with it."""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    bridges = "/v1/projects/{project}/bridges"
    bridge = f"{bridges}/{{bridge}}"
    project = Access.PROJECT
    missing = (ErrorCode.NOT_FOUND,)
    bad = (ErrorCode.INVALID_ARGUMENT, ErrorCode.PAYLOAD_TOO_LARGE, ErrorCode.FAILED_PRECONDITION)
    return [
        Route("PUT", bridge, handlers.put,
              "Give credentials to a bridge; pushes go out with them within a second.", project,
              JsonObject, BridgeView, errors=(*bad, *missing), detail=_fields(services)),
        Route("GET", bridges, handlers.list, "List the bridges with their state.", project, None,
              BridgeList),
        Route("GET", bridge, handlers.get, "Read a bridge with its state.", Access.CLIENT, None,
              BridgeView, errors=missing,
              detail="With a client key: what apps need of it alone, as the public key of Web Push "
              "(`details.public_key`). Otherwise the scope is `admin`."),
        Route("POST", f"{bridge}:test", handlers.test,
              "Try the credentials with the provider; reaches no device.", project, None,
              BridgeView, errors=(*missing, ErrorCode.FAILED_PRECONDITION),
              detail="Answers the bridge with `last_test`, whatever it says. A test that is passed "
              "ends suspensions."),
        Route("DELETE", bridge, handlers.delete, "Remove a bridge and its credentials.", project,
              None, BridgeDeleted, errors=missing),
    ]  # fmt: skip


def _fields(services: Services) -> str:
    """Say what each kind of bridge takes."""
    whole = (
        "The body holds all fields of the bridge; what is missing is as if it was never given. "
        "Answers never show secrets. This call and the others of bridges take the scope `admin`."
    )
    parts = [whole]
    for name, kind in services.accounts.kinds.items():
        accepted = "; ".join(f"`{field}`: {says}" for field, says in kind.takes.ACCEPTS.items())
        parts.append(f"{name}: {accepted}.")
    return "\n\n".join(parts)


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._accounts = services.accounts
        self._projects = services.projects_service

    async def put(self, call: Call) -> Reply:
        project, name = await self._project(call), call.parameters[1]
        self._accounts.kind(name)
        await self._projects.require(project)
        raw = load(await call.body(MAX_JSON_BYTES) or b"{}")
        if not isinstance(raw, dict):
            raise refuse([FieldViolation("", "must be an object")])
        return reply(_view(await self._accounts.put(project, name, raw)))

    async def list(self, call: Call) -> Reply:
        found = await self._accounts.all(await self._project(call))
        return reply(BridgeList([_view(account) for account in found]))

    async def get(self, call: Call) -> Reply:
        if call.header(_CLIENT_KEY) and not call.header("Authorization"):
            return await self._public(call)
        project = await self._project(call)
        return reply(_view(await self._accounts.get(project, call.parameters[1])))

    async def test(self, call: Call) -> Reply:
        project = await self._project(call)
        return reply(_view(await self._accounts.test(project, call.parameters[1])))

    async def delete(self, call: Call) -> Reply:
        project = await self._project(call)
        await self._accounts.remove(project, call.parameters[1])
        return reply(BridgeDeleted())

    async def _public(self, call: Call) -> Reply:
        project = call.project()
        await self._auth.registrant(call, project)
        account = await self._accounts.get(project, call.parameters[1])
        if account.credentials is None:
            raise PushError(ErrorCode.UNAVAILABLE, "The bridge's credentials do not open now.")
        if not (details := account.credentials.public()):
            message = "Nothing of this bridge is for apps; an API key reads it."
            raise PushError(ErrorCode.PERMISSION_DENIED, message)
        return reply(BridgeView(account.name, details=details))

    async def _project(self, call: Call) -> ProjectId:
        project = call.project()
        await self._auth.app_server(call, project, Scope.ADMIN)
        return project


def _view(account: ProjectBridge) -> BridgeView:
    state, credentials = account.state, account.credentials
    return BridgeView(
        name=account.name,
        state=account.condition,
        details={} if credentials is None else credentials.shown(),
        advice=account.advice,
        created_at=rfc3339(state.created_ms),
        changed_at=rfc3339(state.changed_ms),
        suspended=[
            SuspensionView(audience, one.reason, rfc3339(one.since_ms))
            for audience, one in sorted(state.suspended.items())
        ],
        last_test=None if state.test is None else _test(state.test),
        closed=account.closed,
    )


def _test(test: BridgeTest) -> TestView:
    return TestView(test.ok, test.says, rfc3339(test.time_ms), test.refused)
