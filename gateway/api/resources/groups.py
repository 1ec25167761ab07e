"""Groups: devices that an app server lists; the next stage is `router.groups`."""

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.api import errors
from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Query, Route
from gateway.api.services import Services
from gateway.api.violations import refuse
from router.groups import GroupOutcome
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import GroupName, ProjectId, parse_group
from router.model.project import Scope

MAX_BYTES: Final = 262_144
"""A body with a thousand tokens."""
_PAGE: Final = 50
_MOST: Final = 100
_LIMIT: Final = re.compile(r"[1-9][0-9]?|100")
_NAME: Final = "1 to 128 characters of a-z, A-Z, 0-9, -, _, ., ~ and %"
_ACCEPTED: Final = f"must be {_NAME}"
_Tokens = list[Annotated[str, Meta(max_length=256, description="a token")]]


class NewGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group to make, of the devices that these tokens are of."""

    group: Annotated[str, Meta(description=_NAME)]
    tokens: Annotated[
        _Tokens, Meta(max_length=1000, description="an array of up to 1000 tokens")
    ] = []


class GroupTokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose membership changes."""

    tokens: Annotated[
        _Tokens, Meta(min_length=1, max_length=1000, description="an array of 1 to 1000 tokens")
    ]


class MemberResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """An empty object for a device that was added or removed, or why it was not."""

    error: errors.ErrorContent | msgspec.UnsetType = msgspec.UNSET


class MemberResults(msgspec.Struct, frozen=True):
    """What became of each token, in the order of the request."""

    group: str
    results: list[MemberResult]


class GroupEntry(msgspec.Struct, frozen=True):
    """A group; `devices` may count some that unregistered since."""

    group: str
    devices: int


class GroupList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Groups in the order of their names; `next_page` where more follow."""

    groups: list[GroupEntry]
    next_page: str = ""


class GroupView(msgspec.Struct, frozen=True):
    """A group with the ids of its devices."""

    group: str
    devices: list[str]


class GroupDeleted(msgspec.Struct, frozen=True):
    """The group is gone; its devices stay registered."""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    groups = "/v1/projects/{project}/groups"
    group = f"{groups}/{{group}}"
    project = Access.PROJECT
    missing = (ErrorCode.NOT_FOUND,)
    bad = (ErrorCode.INVALID_ARGUMENT,)
    detail = (
        "Errors of a token: `UNREGISTERED`, `SENDER_ID_MISMATCH`, `QUOTA_EXCEEDED` beyond "
        f"{services.settings.max_group_devices} devices (`max_group_devices`)."
    )
    return [
        Route("POST", groups, handlers.create, "Make a group of devices.", project, NewGroup,
              MemberResults, 201, errors=(*bad, ErrorCode.ALREADY_EXISTS), detail=detail),
        Route("GET", groups, handlers.page, "List the groups.", project, None, GroupList,
              errors=(ErrorCode.INVALID_ARGUMENT,),
              query=(Query("limit", f"1 to {_MOST}; {_PAGE} where it is missing."),
                     Query("page", "`next_page` of the page before."))),
        Route("GET", group, handlers.get, "Read a group with its devices.", project, None,
              GroupView, errors=missing),
        Route("POST", f"{group}:add", handlers.add, "Put devices into a group.", project,
              GroupTokens, MemberResults, errors=(*bad, *missing), detail=detail),
        Route("POST", f"{group}:remove", handlers.remove, "Take devices out of a group.", project,
              GroupTokens, MemberResults, errors=(*bad, *missing)),
        Route("DELETE", group, handlers.delete, "Delete a group.", project, None, GroupDeleted,
              errors=missing),
    ]  # fmt: skip


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._groups = services.audiences.groups

    async def create(self, call: Call) -> Reply:
        project = await self._project(call)
        body = await call.json(NewGroup, MAX_BYTES)
        group = parse_group(body.group)
        if group is None:
            raise refuse([FieldViolation("group", _ACCEPTED)])
        outcomes = await self._groups.create(project, group, body.tokens)
        return reply(self._results(group, outcomes), 201)

    async def page(self, call: Call) -> Reply:
        project = await self._project(call)
        limit = call.request.query.get("limit", str(_PAGE))
        if not _LIMIT.fullmatch(limit):
            raise refuse([FieldViolation("limit", f"must be 1 to {_MOST}")])
        after = call.request.query.get("page", "")
        if after and parse_group(after) is None:
            raise refuse([FieldViolation("page", "must be `next_page` of the page before")])
        found = await self._groups.page(project, after, int(limit) + 1)
        page = found[: int(limit)]
        return reply(
            GroupList(
                [GroupEntry(one.group, one.devices) for one in page],
                page[-1].group if len(found) > len(page) else "",
            )
        )

    async def get(self, call: Call) -> Reply:
        project, group = await self._group(call)
        devices = await self._groups.devices(project, group)
        return reply(GroupView(group, [str(device) for device in devices]))

    async def add(self, call: Call) -> Reply:
        project, group = await self._group(call)
        body = await call.json(GroupTokens, MAX_BYTES)
        return reply(self._results(group, await self._groups.add(project, group, body.tokens)))

    async def remove(self, call: Call) -> Reply:
        project, group = await self._group(call)
        body = await call.json(GroupTokens, MAX_BYTES)
        return reply(self._results(group, await self._groups.remove(project, group, body.tokens)))

    async def delete(self, call: Call) -> Reply:
        project, group = await self._group(call)
        await self._groups.delete(project, group)
        return reply(GroupDeleted())

    async def _project(self, call: Call) -> ProjectId:
        project = call.project()
        await self._auth.app_server(call, project, Scope.DEVICES)
        return project

    async def _group(self, call: Call) -> tuple[ProjectId, GroupName]:
        project = await self._project(call)
        group = parse_group(call.parameters[1])
        if group is None:
            raise PushError(ErrorCode.NOT_FOUND, f"No group has such a name: it {_ACCEPTED}.")
        return project, group

    def _results(self, group: GroupName, outcomes: list[GroupOutcome]) -> MemberResults:
        return MemberResults(group, [self._result(outcome) for outcome in outcomes])

    def _result(self, outcome: GroupOutcome) -> MemberResult:
        if outcome is GroupOutcome.DONE:
            return MemberResult()
        if outcome is GroupOutcome.FULL:
            text = f"TOO_MANY_DEVICES: a group has {self._groups.limit} at most."
            refusal = PushError(ErrorCode.QUOTA_EXCEEDED, text)
        elif outcome is GroupOutcome.SENDER_ID_MISMATCH:
            text = "The token belongs to another project: use its key."
            refusal = PushError(ErrorCode.SENDER_ID_MISMATCH, text)
        else:
            refusal = PushError(ErrorCode.UNREGISTERED, "No device has this token: remove it.")
        return MemberResult(errors.body_of(refusal).error)
