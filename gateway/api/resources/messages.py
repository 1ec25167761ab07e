"""Sending, status and cancelling of messages; the next stage is `router.send`."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import msgspec

from gateway.api import errors
from gateway.api.entries import casting_of, entry_of, publication_of
from gateway.api.fcm_model import BatchBody, SendBody
from gateway.api.fcm_v1 import parse_batch, parse_send
from gateway.api.http_server import Reply
from gateway.api.request import Call, digest, reply
from gateway.api.routing import Access, Route
from gateway.api.sent import BatchResponse, Outcome, Sent
from gateway.api.services import Services
from gateway.api.times import rfc3339, rfc3339_or_none
from router.model.errors import ErrorCode, PushError, QuotaExceededError
from router.model.ids import (
    DeviceId,
    MessageId,
    ProjectId,
    parse_message_id,
    parse_token,
)
from router.model.message import Message
from router.model.project import Scope
from router.model.receipt import Event
from router.model.selection import Filter
from router.model.status import MessageStatus, rates
from router.quotas import Quota
from router.send import Item

MAX_SEND_BYTES = 131_072
"""A body of `messages:send`: 4096 bytes of payload, each platform's part, and room for escapes."""
_FAKE_ID = MessageId("fake_message_id")

_SEND_ERRORS = (
    ErrorCode.INVALID_ARGUMENT,
    ErrorCode.SENDER_ID_MISMATCH,
    ErrorCode.UNREGISTERED,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.QUOTA_EXCEEDED,
)


class Delivery(msgspec.Struct, frozen=True):
    """Where the message stands for one device."""

    device_id: str
    state: str
    attempts: int


class Occurrence(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first time that an event happened."""

    type: str
    time: datetime
    device_id: str = ""
    detail: str = ""


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a message; `counts` is the number of devices per event.

    `rates` are shares between 0 and 1: `delivered` of those that it was sent to, the others of
    those that it was delivered to.

    Of a message to many devices `state` is `in_progress` or `done`. Of one to a topic `deliveries`
    holds about a hundred devices at the most, and none where its sender did not ask for receipts of
    each device.
    """

    name: str
    state: str
    target: str
    created_at: datetime
    expires_at: datetime
    counts: dict[str, int]
    deliveries: list[Delivery]
    timeline: list[Occurrence]
    rates: dict[str, float] | None = None
    topic: str = ""
    condition: str = ""
    filter: Filter | None = None
    user: str = ""
    group: str = ""
    send_at: datetime | None = None
    collapse_key: str = ""
    analytics_label: str = ""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    messages = "/v1/projects/{project}/messages"
    return [
        Route(
            "POST",
            f"{messages}:send",
            handlers.send,
            "Send one message (FCM HTTP v1).",
            Access.PROJECT,
            SendBody,
            Sent,
            errors=_SEND_ERRORS,
            detail="With `validate_only` everything is checked and nothing is sent. The header "
            "`Idempotency-Key` (or `idempotency_key`) makes a repeat within 24 hours answer the "
            "first result. A message to a `topic` is stored once, and goes to all that "
            "subscribe to it; one with a `condition` or a `filter` goes to those that match when "
            "its turn comes; one to a `user` or a `group` enters the mailbox of each device.",
        ),
        Route(
            "POST",
            f"{messages}:sendBatch",
            handlers.send_batch,
            "Send up to 500 messages; each is accepted or refused for itself.",
            Access.PROJECT,
            BatchBody,
            BatchResponse,
            errors=(ErrorCode.INVALID_ARGUMENT, ErrorCode.QUOTA_EXCEEDED),
        ),
        Route(
            "GET",
            messages + "/{message}",
            handlers.status,
            "Tell what became of a message.",
            Access.PROJECT,
            None,
            Status,
            errors=(ErrorCode.NOT_FOUND,),
        ),
        Route(
            "DELETE",
            messages + "/{message}",
            handlers.cancel,
            "Cancel what is still pending of a message; answers its status.",
            Access.PROJECT,
            None,
            Status,
            errors=(ErrorCode.NOT_FOUND,),
        ),
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._sender = services.sender
        self._publisher = services.publisher
        self._caster = services.audiences.caster
        self._mailboxes = services.mailboxes
        self._terms = services.bridging.terms
        self._messages = services.messages
        self._sends = services.metrics.sends
        self._accepted = self._sends.labels(result="accepted")
        self._quotas = services.quotas
        self._limit_refusals = services.metrics.limit_refusals

    async def send(self, call: Call) -> Reply:
        project = call.project()
        caller = await self._auth.app_server(call, project, Scope.SEND)
        body = await call.body(MAX_SEND_BYTES)
        try:
            request = parse_send(body, call.now_ms)
            if request.validate_only:
                await self._check(project, request.message, call.now_ms)
                return _sent(project, _FAKE_ID, {})
            key = call.idempotency_key() or request.idempotency_key
            quota = self._quotas.of(project, caller.key, caller.limits)
            await quota.pay(request.message)
            entry = Item(request.message, key, digest(body) if key else "", quota.device)
            message = await self._accept(project, entry, quota)
        except PushError as error:
            self._count(error)
            raise
        self._accepted.inc()
        return _sent(project, message, quota.headers)

    async def send_batch(self, call: Call) -> Reply:
        project = call.project()
        caller = await self._auth.app_server(call, project, Scope.SEND)
        quota = self._quotas.of(project, caller.key, caller.limits)
        batch = parse_batch(await call.body(), call.now_ms)
        key = call.idempotency_key()
        outcomes: list[MessageId | PushError] = [_FAKE_ID] * len(batch.items)
        entries: list[Item] = []
        places: list[int] = []
        for index, item in enumerate(batch.items):
            request = item.request
            if isinstance(request, PushError):
                outcomes[index] = request
            elif batch.validate_only or request.validate_only:
                outcomes[index] = await self._checked(project, request.message, call.now_ms)
            else:
                own_key = f"{key}/{index}" if key else ""
                entries.append(entry_of(item, request, own_key, quota.device))
                places.append(index)
        sent = await self._accept_paid(project, entries, quota)
        for index, outcome in zip(places, sent, strict=True):
            outcomes[index] = outcome
        if accepted := sum(not isinstance(outcome, PushError) for outcome in sent):
            self._accepted.inc(accepted)
        response = BatchResponse([self._outcome(project, outcome) for outcome in outcomes])
        errors.refuse_all(sent)
        return reply(response, headers=quota.headers)

    async def status(self, call: Call) -> Reply:
        project = call.project()
        await self._auth.app_server(call, project, Scope.SEND)
        message = _message_id(call)
        found = await self._messages.status(message)
        if found is None or found.project != project:
            raise _unknown()
        if found.audience is not None:
            return reply(_status_of_many(await self._caster.status(found), call.now_ms))
        receivers: dict[DeviceId, Event] = {}
        if found.per_device and found.is_published:
            receivers = await self._messages.receivers(message)
        return reply(_status(found, call.now_ms, receivers))

    async def cancel(self, call: Call) -> Reply:
        project = call.project()
        await self._auth.app_server(call, project, Scope.SEND)
        found = await self._sender.cancel(project, _message_id(call))
        if found is None:
            raise _unknown()
        if found.audience is not None:
            return reply(_status_of_many(found, call.now_ms))
        return reply(_status(found, call.now_ms, {}))

    async def _accept(self, project: ProjectId, item: Item, quota: Quota) -> MessageId:
        """Store a message for its device, its topic, its user or its group."""
        message = item.message
        if message.audience is not None:
            return await self._caster.cast(project, casting_of(item, message.audience))
        if (log := message.log) is not None:
            publication = publication_of(item, log, quota.topic)
            return await self._publisher.publish(project, publication)
        return await self._sender.send_item(project, item)

    async def _accept_paid(
        self, project: ProjectId, items: list[Item], quota: Quota
    ) -> list[MessageId | PushError]:
        """Store as many as the limits allow, the first ones first."""
        refusals = await quota.pay_batch([item.message for item in items])
        paid = [item for item, refusal in zip(items, refusals, strict=True) if refusal is None]
        stored = iter(await self._accept_batch(project, paid, quota))
        return [next(stored) if refusal is None else refusal for refusal in refusals]

    async def _accept_batch(
        self, project: ProjectId, items: list[Item], quota: Quota
    ) -> list[MessageId | PushError]:
        """Store several: those to topics, to devices, to users and groups each in their order."""
        topics = {
            index: publication_of(item, log, quota.topic)
            for index, item in enumerate(items)
            if (log := item.message.log) is not None
        }
        casts = {
            index: casting_of(item, audience)
            for index, item in enumerate(items)
            if (audience := item.message.audience) is not None
        }
        if not topics and not casts:
            return await self._sender.send_batch(project, items) if items else []
        devices = [
            index for index in range(len(items)) if index not in topics and index not in casts
        ]
        # Begun in one turn of the loop: all leave with one pipeline.
        async with asyncio.TaskGroup() as tasks:
            published = tasks.create_task(
                self._publisher.publish_batch(project, list(topics.values()))
            )
            sent = tasks.create_task(
                self._sender.send_batch(project, [items[index] for index in devices])
            )
            cast = tasks.create_task(self._caster.cast_batch(project, list(casts.values())))
        stored = (*published.result(), *sent.result(), *cast.result())
        outcomes = dict(zip((*topics, *devices, *casts), stored, strict=True))
        return [outcomes[index] for index in range(len(items))]

    def _count(self, error: PushError) -> None:
        self._sends.labels(result=error.code.name.lower()).inc()
        if isinstance(error, QuotaExceededError):
            self._limit_refusals.labels(error.limit.value).inc()

    def _outcome(self, project: ProjectId, outcome: MessageId | PushError) -> Outcome:
        if isinstance(outcome, PushError):
            self._count(outcome)
            return Outcome(error=errors.body_of(outcome).error)
        return Outcome(f"projects/{project}/messages/{outcome}")

    async def _checked(
        self, project: ProjectId, message: Message, now_ms: int
    ) -> MessageId | PushError:
        try:
            await self._check(project, message, now_ms)
        except PushError as error:
            return error
        return _FAKE_ID

    async def _check(self, project: ProjectId, message: Message, now_ms: int) -> None:
        """Check the target of a message that is only validated; any topic or condition will do."""
        if message.log is not None or message.audience is not None:
            self._terms.check_many(project, message, now_ms)
        if message.log is not None:
            return
        if message.audience is not None:
            await self._caster.check(project, message.audience, message.send_at_ms)
            return
        token = parse_token(message.token)
        device = None if token is None else await self._mailboxes.device(token.device)
        if token is None or device is None or device.nonce != token.nonce:
            raise PushError(ErrorCode.UNREGISTERED, "The token is not registered: forget it.")
        if device.project != project:
            raise PushError(ErrorCode.SENDER_ID_MISMATCH, "The token is of another project.")
        self._terms.check(device.bridge, message, now_ms)


def _sent(project: ProjectId, message: MessageId, headers: Mapping[str, str]) -> Reply:
    return Reply(f'{{"name":"projects/{project}/messages/{message}"}}'.encode(), headers=headers)


def _message_id(call: Call) -> MessageId:
    message = parse_message_id(call.parameters[1])
    if message is None:
        raise _unknown()
    return message


def _unknown() -> PushError:
    return PushError(
        ErrorCode.NOT_FOUND, "There is no such message, or its status is no longer kept."
    )


def _status(found: MessageStatus, now_ms: int, receivers: dict[DeviceId, Event]) -> Status:
    counts, selection = found.event_counts, found.selection
    state = found.shown_state(now_ms)
    deliveries = [Delivery(found.device, state, found.attempts)]
    if found.is_published:
        deliveries = [Delivery(device, event.value, 1) for device, event in receivers.items()]
    return Status(
        name=f"projects/{found.project}/messages/{found.id}",
        state=state,
        target=found.target,
        created_at=rfc3339(found.created_ms),
        # Of a TTL of 0 the store keeps the time of acceptance, for a scheduled message too.
        expires_at=rfc3339(max(found.expires_ms, found.send_at_ms)),
        counts=counts,
        deliveries=deliveries,
        timeline=[
            Occurrence(entry.event.value, rfc3339(entry.time_ms), found.device, entry.detail)
            for entry in found.timeline
        ],
        send_at=rfc3339_or_none(found.send_at_ms),
        collapse_key=found.collapse_key,
        topic=found.topic or "",
        rates=rates(counts) if found.counted else None,
        analytics_label=found.label,
        condition=selection.condition if selection is not None else "",
        filter=selection.filter if selection is not None else None,
    )


def _status_of_many(found: MessageStatus, now_ms: int) -> Status:
    """Add up where the copies of a message to a user or a group stand."""
    occurrences = [(entry, DeviceId("")) for entry in found.timeline]
    for copy in found.copies:
        occurrences += [(entry, copy.device) for entry in copy.timeline]
    occurrences.sort(key=lambda one: one[0].time_ms)
    whole = _status(found, now_ms, {})
    return msgspec.structs.replace(
        whole,
        deliveries=[Delivery(one.device, one.state.value, one.attempts) for one in found.copies],
        timeline=[
            Occurrence(entry.event.value, rfc3339(entry.time_ms), device, entry.detail)
            for entry, device in occurrences
        ],
        **{found.target: "" if found.audience is None else found.audience.name},
    )
