"""FCM's JSON into `router.model.message.Message`: pure, strict, and fast for the common message.

The fast way is one msgspec decode from bytes; where that refuses, `violations` reads the JSON again
to tell every fault. Limits and rules across fields are checked here, for both ways alike.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
import orjson

from gateway.api import fcm_model as fcm
from gateway.api.selections import selection_faults, selection_of
from gateway.api.violations import Reader, load, refuse
from router.model.audience import Audience, AudienceKind
from router.model.errors import FieldViolation, PushError
from router.model.ids import parse_group, parse_token, parse_topic
from router.model.message import (
    MAX_PAYLOAD_BYTES,
    MAX_TTL_S,
    BridgeMode,
    BridgePolicy,
    Message,
    Notification,
    Platforms,
    Priority,
    ReceiptMode,
)
from router.policy.limits import payload_violation, user_violation

_MAX_MS: Final = MAX_TTL_S * 1000
_RESERVED: Final = ("google", "gcm")
_LATER: Final = ("fid",)
_TARGETS: Final = ("token", "topic", "condition", "user", "group")
_MALFORMED: Final = (msgspec.MsgspecError, RecursionError, UnicodeError)
_NO_BRIDGE_POLICY: Final = BridgePolicy()
_MAX_APNS_BYTES: Final = 5120
"""What APNs takes for VoIP; for all others 4096."""

_encoder = msgspec.json.Encoder()
_send_decoder = msgspec.json.Decoder(fcm.SendBody)
_message_decoder = msgspec.json.Decoder(fcm.MessageBody)
_batch_decoder = msgspec.json.Decoder(fcm.BatchFrame)

Fault = tuple[str, str]
"""A canonical path inside the message, and what is wrong there."""


class SendRequest(msgspec.Struct, frozen=True):
    """One valid send."""

    message: Message
    validate_only: bool
    idempotency_key: str


class BatchItem(msgspec.Struct, frozen=True):
    """One message of a batch with its bytes, or why it is refused."""

    request: SendRequest | PushError
    raw: msgspec.Raw


class BatchRequest(msgspec.Struct, frozen=True):
    """A batch, in order."""

    items: list[BatchItem]
    validate_only: bool


def parse_send(body: bytes, now_ms: int) -> SendRequest:
    """Read the body of `messages:send`.

    Raises:
        PushError: INVALID_ARGUMENT with every bad field.
    """
    try:
        parsed = _send_decoder.decode(body)
    except _MALFORMED:
        return _parse_slowly(load(body), "", now_ms)
    return _finish(parsed.message, parsed, now_ms, len(body), "message", None)


def parse_batch(body: bytes, now_ms: int) -> BatchRequest:
    """Read the body of `messages:sendBatch`; a bad message refuses itself alone.

    Raises:
        PushError: INVALID_ARGUMENT where the batch as a whole is wrong.
    """
    try:
        batch = _batch_decoder.decode(body)
    except _MALFORMED:
        batch = _batch_slowly(body)
    if not batch.messages:
        raise refuse([FieldViolation("messages", "must hold at least one message")])
    items = [
        BatchItem(_parse_item(raw, f"messages[{index}]", now_ms), raw)
        for index, raw in enumerate(batch.messages)
    ]
    return BatchRequest(items, bool(batch.validate_only))


def parse_duration(text: str) -> int:
    """Give the milliseconds, rounded up, of a duration that matches `fcm_model.Duration`."""
    whole, _, fraction = text[:-1].partition(".")
    if not fraction:
        return int(whole) * 1000
    milliseconds = int(whole) * 1000 + int((fraction + "00")[:3])
    return milliseconds + (1 if fraction[3:].strip("0") else 0)


def _parse_item(raw: msgspec.Raw, path: str, now_ms: int) -> SendRequest | PushError:
    size = len(memoryview(raw))
    try:
        return _finish(_message_decoder.decode(raw), None, now_ms, size, path, None)
    except PushError as error:
        return error
    except _MALFORMED:
        try:
            return _parse_slowly(load(raw), path, now_ms)
        except PushError as error:
            return error


def _parse_slowly(raw: object, path: str, now_ms: int) -> SendRequest:
    """Read a send, or one message of a batch, and raise all its faults at once."""
    reader = Reader()
    wrapped = not path or (isinstance(raw, dict) and "message" in raw)
    if wrapped:
        normal = reader.read(raw, fcm.SendBody, path, path)
        inner = normal.get("message")
        place = f"{path}.message" if path else "message"
    else:
        normal = {}
        inner = reader.read(raw, fcm.MessageBody, path, path)
        place = path
    if reader.violations:
        raise refuse(reader.violations)
    message = msgspec.convert(inner, fcm.MessageBody)
    outer = msgspec.convert(normal, fcm.SendBody) if wrapped else None
    return _finish(message, outer, now_ms, MAX_PAYLOAD_BYTES + 1, place, reader)


def _batch_slowly(body: bytes) -> fcm.BatchFrame:
    reader = Reader()
    normal = reader.read(load(body), fcm.BatchShape, "", "")
    if reader.violations:
        raise refuse(reader.violations)
    batch = msgspec.convert(normal, fcm.BatchShape)
    return fcm.BatchFrame(
        messages=[msgspec.Raw(orjson.dumps(message)) for message in batch.messages],
        validate_only=batch.validate_only,
    )


def _finish(
    body: fcm.MessageBody,
    outer: fcm.SendBody | None,
    now_ms: int,
    size: int,
    place: str,
    reader: Reader | None,
) -> SendRequest:
    """Check what goes across fields and build the message.

    Args:
        body: the message, every field valid for itself.
        outer: what stood around it.
        now_ms: now, epoch milliseconds.
        size: bytes of the message's JSON, which no payload in it exceeds.
        place: path of the message in the request.
        reader: knows how the caller wrote the paths; None: as `fcm_model` does.
    """
    message = _build(body)
    faults = list(_faults(body, message, now_ms))
    if size > MAX_PAYLOAD_BYTES:
        faults += _size_faults(message)
    if faults:
        written = reader.written if reader is not None else str
        raise refuse(
            [
                FieldViolation(written(f"{place}.{path}" if path else place), says)
                for path, says in faults
            ]
        )
    if outer is None:
        return SendRequest(message, validate_only=False, idempotency_key="")
    return SendRequest(message, bool(outer.validate_only), outer.idempotency_key or "")


def _build(body: fcm.MessageBody) -> Message:
    """Give the message as Pushwire's own sockets carry it: ours, then android's, then defaults."""
    notification = body.notification
    options = body.fcm_options
    android = body.android
    ttl = body.ttl
    collapse_key = body.collapse_key
    priority = body.priority
    data = body.data
    common = shown = None
    if notification is not None:
        common = shown = Notification(
            notification.title or "", notification.body or "", notification.image or ""
        )
    if android is not None:
        ttl = ttl or android.ttl
        collapse_key = collapse_key or android.collapse_key
        priority = priority or android.priority
        data = android.data if android.data is not None else data
        options = android.fcm_options or options
        shown = _overridden(common, android.notification)
    return Message(
        token=body.token or "",
        notification=shown,
        data=data,
        ttl_ms=_MAX_MS if ttl is None else parse_duration(ttl),
        collapse_key=collapse_key or "",
        priority=Priority.NORMAL if priority is None else Priority(priority.lower()),
        send_at_ms=None if body.send_at is None else int(body.send_at.timestamp() * 1000),
        receipts=_receipts(body),
        bridge=_bridge_policy(body),
        label=(options.analytics_label or "") if options is not None else "",
        topic=None if body.topic is None else parse_topic(body.topic),
        audience=_audience(body),
        platforms=_platforms(body, common),
        selection=selection_of(body),
    )


def _audience(body: fcm.MessageBody) -> Audience | None:
    if body.user is not None:
        return Audience(AudienceKind.USER, body.user)
    return None if body.group is None else Audience(AudienceKind.GROUP, body.group)


def _receipts(body: fcm.MessageBody) -> ReceiptMode:
    """Give the mode asked for; by default those of one device, and numbers for a topic."""
    if body.receipts is not None:
        return ReceiptMode(body.receipts.lower())
    published = body.topic is not None or body.condition is not None or body.filter is not None
    return ReceiptMode.AGGREGATE if published else ReceiptMode.DEVICE


def _overridden(
    common: Notification | None, android: fcm.AndroidNotification | None
) -> Notification | None:
    if android is None:
        return common
    base = common or Notification()
    return Notification(
        base.title if android.title is None else android.title,
        base.body if android.body is None else android.body,
        base.image if android.image is None else android.image,
    )


def _platforms(body: fcm.MessageBody, common: Notification | None) -> Platforms | None:
    if body.android is None and body.webpush is None and body.apns is None:
        return None
    return Platforms(
        notification=common,
        data=body.data,
        android=_plain(body.android),
        webpush=_plain(body.webpush),
        apns=_plain(body.apns),
    )


def _plain(part: msgspec.Struct | None) -> dict[str, object] | None:
    if part is None:
        return None
    plain: dict[str, object] = msgspec.to_builtins(part)
    return plain


def _bridge_policy(body: fcm.MessageBody) -> BridgePolicy:
    bridge = body.bridge
    after = body.after
    if bridge is None and after is None:
        return _NO_BRIDGE_POLICY
    mode: str | None
    if isinstance(bridge, fcm.Bridge):
        mode = bridge.mode
        after = bridge.after if after is None else after
    else:
        mode = bridge
    return BridgePolicy(
        BridgeMode.AUTO if mode is None else BridgeMode(mode.lower()), _seconds(after)
    )


def _seconds(after: int | str | None) -> int | None:
    if after is None:
        return None
    return after if isinstance(after, int) else -(-parse_duration(after) // 1000)


def _faults(body: fcm.MessageBody, message: Message, now_ms: int) -> Iterator[Fault]:
    """Find what breaks a rule across fields or a limit."""
    yield from _target_faults(body)
    if message.ttl_ms > _MAX_MS:
        path = "ttl" if body.ttl is not None else "android.ttl"
        yield path, "must be at most 28 days (2419200s)"
    yield from _reserved(body.data, "data")
    if message.platforms is not None:
        yield from _platform_faults(body)
    if message.send_at_ms is not None and message.send_at_ms > now_ms + _MAX_MS:
        yield "send_at", "must be at most 28 days ahead"
    if (message.bridge.after_s or 0) > MAX_TTL_S:
        yield "after", "must be at most 28 days"
    if isinstance(body.bridge, fcm.Bridge) and None not in {body.bridge.after, body.after}:
        yield "after", "is given twice, here and in bridge"


def _size_faults(message: Message) -> Iterator[Fault]:
    size = sum(len(_encoder.encode(part)) for part in (message.notification, message.data) if part)
    if (large := payload_violation(size)) is not None:
        yield "", large.description


def _target_faults(body: fcm.MessageBody) -> Iterator[Fault]:
    later = [name for name in _LATER if getattr(body, name) is not None]
    for name in later:
        yield name, "is not accepted yet: `token`, `topic`, `condition`, `user` and `group` are"
    given = [name for name in _TARGETS if getattr(body, name) is not None]
    if not given and not later and body.filter is None:
        yield "token", "is required, or topic, condition, user, group or filter in its place"
    for name in given[1:]:
        yield name, f"is given beside `{given[0]}`: a message has one target"
    if body.topic is not None and parse_topic(body.topic) is None:
        yield "topic", "must be 1 to 900 characters of a-z, A-Z, 0-9, -, _, ., ~ and %"
    yield from selection_faults(body)
    if body.user is not None and (not body.user or user_violation(body.user) is not None):
        yield "user", "must be 1 to 128 printable characters"
    if body.group is not None and parse_group(body.group) is None:
        yield "group", "must be 1 to 128 characters of a-z, A-Z, 0-9, -, _, ., ~ and %"
    if body.token is not None and parse_token(body.token) is None:
        yield "token", "is not a registration token of this gateway"


def _reserved(data: dict[str, str] | None, path: str) -> Iterator[Fault]:
    for key in data or ():
        if key.startswith(_RESERVED) or key in {"from", "message_type"} or not key:
            yield f"{path}.{key[:64]}", "is a reserved key: not from, message_type, google*, gcm*"


def _platform_faults(body: fcm.MessageBody) -> Iterator[Fault]:
    android, webpush, apns = body.android, body.webpush, body.apns
    if android is not None:
        yield from _reserved(android.data, "android.data")
        if body.ttl and android.ttl and parse_duration(android.ttl) > _MAX_MS:
            yield "android.ttl", "must be at most 28 days (2419200s)"
    if webpush is not None:
        yield from _reserved(webpush.data, "webpush.data")
        yield from _object_faults(webpush.notification, "webpush.notification", MAX_PAYLOAD_BYTES)
    if apns is not None:
        # A bridge knows the limit of what this is for; this is the widest of them.
        yield from _object_faults(apns.payload, "apns.payload", _MAX_APNS_BYTES)


def _object_faults(value: dict[str, object] | None, path: str, limit: int) -> Iterator[Fault]:
    if value is None:
        return
    try:
        size = len(orjson.dumps(value))
    except (orjson.JSONEncodeError, RecursionError):
        yield path, "is nested too deeply or holds a number out of range"
        return
    if size > limit:
        yield path, f"has {size} bytes; {limit} bytes are accepted"
