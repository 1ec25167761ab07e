"""The device's frame of a message, and the size of what it carries: pure.

A frame is encoded once, in msgpack, before the message is stored (docs/protocol.md).
"""

import msgspec

from router.model.ids import MessageId
from router.model.lane import LANE_OF, Lane
from router.model.message import Message, Notification, Priority
from sdk_client.wire import encode


class _Urgency(msgspec.Struct):
    priority: Priority = Priority.NORMAL


_json = msgspec.json.Encoder()
_urgency = msgspec.msgpack.Decoder(_Urgency)


def message_frame(message: Message, identifier: MessageId, sent_ms: int, expires_ms: int) -> bytes:
    """Encode the frame of a message; times in epoch milliseconds.

    Raises:
        UnicodeEncodeError: a text holds half of a surrogate pair.
    """
    frame: dict[str, object] = {
        "op": "message",
        "id": identifier,
        "sent_at": sent_ms,
        "expires_at": expires_ms,
        "priority": message.priority.value,
    }
    if message.topic is not None:
        frame["topic"] = message.topic
    if message.collapse_key:
        frame["collapse_key"] = message.collapse_key
    if message.notification is not None:
        frame["notification"] = shown(message.notification)
    if message.data:
        frame["data"] = message.data
    return encode(frame)


def lane_of_frame(frame: bytes) -> Lane:
    """Give the lane of a stored frame, for what knows nothing else of the message."""
    try:
        return LANE_OF[_urgency.decode(frame).priority]
    except msgspec.MsgspecError:
        return Lane.NORMAL


def payload_bytes(message: Message) -> int:
    """Give the size of notification and data together, as JSON in UTF-8."""
    size = 0
    if message.notification is not None:
        size = len(_json.encode(message.notification))
    if message.data:
        size += len(_json.encode(message.data))
    return size


def shown(notification: Notification) -> dict[str, str]:
    """Give the notification without its empty parts."""
    parts = {
        "title": notification.title,
        "body": notification.body,
        "image": notification.image,
    }
    return {name: text for name, text in parts.items() if text}
