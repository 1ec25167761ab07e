"""What is stored of a message for the bridges, beside its frame: pure.

The device's frame carries nearly all that a bridge needs, so a message that gives no platform a
part of its own has an empty bridge part and costs the store nothing more. Otherwise the part holds,
in msgpack: the platforms' parts, and the common notification and data where android's went first in
the frame.
"""

from typing import Final

import msgspec

from router.model.ids import MessageId
from router.model.message import Message, Notification, Priority
from router.model.push import Push


class _Part(msgspec.Struct, frozen=True, omit_defaults=True):
    android: dict[str, object] = msgspec.field(default_factory=dict, name="a")
    apns: dict[str, object] = msgspec.field(default_factory=dict, name="i")
    webpush: dict[str, object] = msgspec.field(default_factory=dict, name="w")
    label: str = msgspec.field(default="", name="l")
    own: bool = msgspec.field(default=False, name="o")
    """Whether notification and data stand here, not in the frame."""
    notification: Notification | None = msgspec.field(default=None, name="n")
    data: dict[str, str] = msgspec.field(default_factory=dict, name="d")


class _Frame(msgspec.Struct, frozen=True):
    """The fields of `router.policy.frame` that bridges read."""

    id: str
    sent_at: int
    expires_at: int
    priority: Priority
    topic: str = ""
    collapse_key: str = ""
    notification: Notification | None = None
    data: dict[str, str] = {}


_EMPTY: Final = _Part()
_encoder = msgspec.msgpack.Encoder()
_part_decoder = msgspec.msgpack.Decoder(_Part)
_frame_decoder = msgspec.msgpack.Decoder(_Frame)


def pack(message: Message) -> bytes:
    """Give the bridge part of a message; empty where its frame says it all.

    Raises:
        UnicodeEncodeError: a text holds half of a surrogate pair.
    """
    platforms = message.platforms
    if platforms is None:
        return _encoder.encode(_Part(label=message.label)) if message.label else b""
    common = platforms.notification
    data = platforms.data or {}
    own = not _same(common, message.notification) or data != (message.data or {})
    part = _Part(
        android=platforms.android or {},
        apns=platforms.apns or {},
        webpush=platforms.webpush or {},
        label=message.label,
        own=own,
        notification=common if own else None,
        data=data if own else {},
    )
    return b"" if part == _EMPTY else _encoder.encode(part)


def unpack(frame: bytes, part: bytes) -> Push:
    """Give the push of a stored message.

    Args:
        frame: as `router.policy.frame` wrote it.
        part: as `pack` wrote it.

    Raises:
        msgspec.MsgspecError: one of them is not what it should be.
    """
    told = _frame_decoder.decode(frame)
    more = _part_decoder.decode(part) if part else _EMPTY
    return Push(
        id=MessageId(told.id),
        sent_ms=told.sent_at,
        expires_ms=told.expires_at,
        priority=told.priority,
        topic=told.topic,
        collapse_key=told.collapse_key,
        notification=_shown(more.notification if more.own else told.notification),
        data=more.data if more.own else told.data,
        android=more.android,
        apns=more.apns,
        webpush=more.webpush,
        label=more.label,
    )


def push_of(message: Message, identifier: MessageId, sent_ms: int, expires_ms: int) -> Push:
    """Give the push of a message that is being accepted; equal to that of the stored one."""
    platforms = message.platforms
    common = message.notification if platforms is None else platforms.notification
    data = message.data if platforms is None else platforms.data
    return Push(
        id=identifier,
        sent_ms=sent_ms,
        expires_ms=expires_ms,
        priority=message.priority,
        topic=message.topic or "",
        collapse_key=message.collapse_key,
        notification=_shown(common),
        data=data or {},
        android=(platforms and platforms.android) or {},
        apns=(platforms and platforms.apns) or {},
        webpush=(platforms and platforms.webpush) or {},
        label=message.label,
    )


def _shown(notification: Notification | None) -> Notification | None:
    """Give a notification that shows something, or None."""
    return None if notification == Notification() else notification


def _same(one: Notification | None, other: Notification | None) -> bool:
    return _shown(one) == _shown(other)
