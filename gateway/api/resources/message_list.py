"""Listing of recent messages; the next stage is `router.listing`."""

import re
from datetime import datetime
from typing import Final

import msgspec

from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Query, Route
from gateway.api.services import Services
from gateway.api.times import rfc3339, rfc3339_or_none
from gateway.api.violations import refuse
from router.listing import Wanted
from router.model.audience import Audience, AudienceKind
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import (
    Partition,
    ProjectId,
    TopicName,
    parse_device_id,
    parse_group,
    parse_message_id,
    parse_token,
    parse_topic,
    partition_of,
    partition_of_topic,
)
from router.model.project import Scope
from router.model.selection import Filter
from router.model.status import STATES, MessageStatus, rates
from router.policy.limits import user_violation

_EVERYBODY: Final = TopicName("*")
"""The log of what is sent to conditions."""
_SIZE: Final = 50
_MOST: Final = 100
_NUMBER: Final = re.compile(r"[1-9][0-9]?|100")
_TARGETS: Final = (
    "`<token>`, `token:<token>`, `device:<device id>`, `topic:<name>`, `user:<user>`, "
    "`group:<group>` or `condition`"
)
_QUERY: Final = (
    Query("target", f"{_TARGETS}; all where it is missing."),
    Query("state", "One or several, with commas; all where it is missing."),
    Query("page_size", f"1 to {_MOST}; {_SIZE} where it is missing."),
    Query("page_token", "`next_page_token` of the page before."),
)
_PARAMETERS: Final = tuple(one.name for one in _QUERY)


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a message stands; its status tells more."""

    name: str
    state: str
    target: str
    created_at: datetime
    expires_at: datetime
    counts: dict[str, int]
    device_id: str = ""
    topic: str = ""
    condition: str = ""
    filter: Filter | None = None
    user: str = ""
    group: str = ""
    rates: dict[str, float] | None = None
    send_at: datetime | None = None
    collapse_key: str = ""
    analytics_label: str = ""


class MessageList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Messages, the latest first; without `next_page_token` there are no more."""

    messages: list[Summary]
    next_page_token: str = ""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    return [
        Route(
            "GET",
            "/v1/projects/{project}/messages",
            _Handlers(services).list,
            "List recent messages, the latest first.",
            Access.PROJECT,
            None,
            MessageList,
            errors=(ErrorCode.INVALID_ARGUMENT, ErrorCode.UNIMPLEMENTED),
            query=_QUERY,
            detail="A page may hold fewer messages than asked for and yet have a next one.",
        )
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._listing = services.listing
        self._off = not services.settings.recent_messages

    async def list(self, call: Call) -> Reply:
        project = call.project()
        await self._auth.app_server(call, project, Scope.SEND)
        wanted = _wanted(call, project)
        if self._off:
            raise PushError(
                ErrorCode.UNIMPLEMENTED, "Messages are not listed: recent_messages is set to 0."
            )
        page = await self._listing.page(project, wanted)
        found = [_summary(status, call.now_ms) for status in page.messages]
        return reply(MessageList(found, page.last or ""))


def _wanted(call: Call, project: ProjectId) -> Wanted:
    """Read the query.

    Raises:
        PushError: INVALID_ARGUMENT with every bad parameter.
    """
    query = call.request.query
    faults = [
        FieldViolation(name[:64], f"is unknown: {', '.join(_PARAMETERS)} are accepted")
        for name in sorted(set(query) - set(_PARAMETERS))
    ]
    states = frozenset(filter(None, ",".join(query.getall("state", [])).split(",")))
    if not states <= STATES:
        faults.append(FieldViolation("state", f"must be among {', '.join(sorted(STATES))}"))
    size = query.get("page_size", str(_SIZE))
    if not _NUMBER.fullmatch(size):
        faults.append(FieldViolation("page_size", f"must be 1 to {_MOST}"))
    after = parse_message_id(token) if (token := query.get("page_token", "")) else None
    if token and after is None:
        faults.append(FieldViolation("page_token", "must be `next_page_token` of the page before"))
    partition, target = None, None
    if "target" in query:
        place = _place(query["target"], project)
        if place is None:
            faults.append(FieldViolation("target", f"must be {_TARGETS}"))
        else:
            partition, target = place
    if faults:
        raise refuse(faults)
    return Wanted(partition, target, states, after, int(size))


def _place(text: str, project: ProjectId) -> tuple[Partition, str] | None:
    """Give where messages to a target stand, and how the index names it."""
    if text == "condition":
        return partition_of_topic(project, _EVERYBODY), f"/topics/{_EVERYBODY}"
    kind, _, name = text.partition(":")
    if kind == "device" and (device := parse_device_id(name)) is not None:
        return partition_of(device), device
    if kind == "topic" and (topic := parse_topic(name)) is not None:
        return partition_of_topic(project, topic), f"/topics/{topic}"
    if (audience := _audience(kind, name)) is not None:
        return audience.partition(project), audience.target()
    if (address := parse_token(name if kind == "token" else text)) is not None:
        return address.partition, address.device
    return None


def _audience(kind: str, name: str) -> Audience | None:
    if kind == AudienceKind.USER and name and user_violation(name) is None:
        return Audience(AudienceKind.USER, name)
    if kind == AudienceKind.GROUP and parse_group(name) is not None:
        return Audience(AudienceKind.GROUP, name)
    return None


def _summary(found: MessageStatus, now_ms: int) -> Summary:
    counts = found.event_counts
    audience, selection = found.audience, found.selection
    return Summary(
        name=f"projects/{found.project}/messages/{found.id}",
        state=found.shown_state(now_ms),
        target=found.target,
        created_at=rfc3339(found.created_ms),
        expires_at=rfc3339(max(found.expires_ms, found.send_at_ms)),
        counts=counts,
        device_id=found.device,
        topic=found.topic or "",
        condition=selection.condition if selection is not None else "",
        filter=selection.filter if selection is not None else None,
        user=audience.name if audience and audience.kind is AudienceKind.USER else "",
        group=audience.name if audience and audience.kind is AudienceKind.GROUP else "",
        rates=rates(counts) if found.counted else None,
        send_at=rfc3339_or_none(found.send_at_ms),
        collapse_key=found.collapse_key,
        analytics_label=found.label,
    )
