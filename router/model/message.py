"""A message as an app server sent it, parsed and valid."""

import enum
from typing import Final

import msgspec

from router.model.audience import Audience
from router.model.ids import BROADCAST, TopicName
from router.model.selection import Selection

MAX_TTL_S: Final = 28 * 24 * 3600
MAX_PAYLOAD_BYTES: Final = 4096


class Priority(enum.StrEnum):
    """How urgent a message is; FCM's `high` and `normal` keep their names."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class ReceiptMode(enum.StrEnum):
    """Which receipts the sender asks for."""

    NONE = "none"
    AGGREGATE = "aggregate"
    DEVICE = "device"


class BridgeMode(enum.StrEnum):
    """Whether a bridge may carry the message."""

    AUTO = "auto"
    ONLY = "only"
    NEVER = "never"


class BridgePolicy(msgspec.Struct, frozen=True, gc=False):
    """When a bridge takes over: `after_s` seconds without an ack; None: the gateway's."""

    mode: BridgeMode = BridgeMode.AUTO
    after_s: int | None = None


class Notification(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the operating system shows."""

    title: str = ""
    body: str = ""
    image: str = ""


class Platforms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the bridges read: the parts as they were sent, before android's went first.

    `android`, `webpush` and `apns` are valid FCM v1 objects in snake_case.
    """

    notification: Notification | None = None
    data: dict[str, str] | None = None
    android: dict[str, object] | None = None
    webpush: dict[str, object] | None = None
    apns: dict[str, object] | None = None


class Message(msgspec.Struct, frozen=True):
    """One message, valid, with every duration in milliseconds and every time in epoch milliseconds.

    Its target is `token`, the text of a single device's address, or else `topic` or `audience`, or
    else those of the project's devices that are its `selection`.
    """

    token: str
    notification: Notification | None = None
    data: dict[str, str] | None = None
    ttl_ms: int = MAX_TTL_S * 1000
    collapse_key: str = ""
    priority: Priority = Priority.NORMAL
    send_at_ms: int | None = None
    receipts: ReceiptMode = ReceiptMode.DEVICE
    bridge: BridgePolicy = BridgePolicy()
    label: str = ""
    """FCM's `analytics_label`."""
    topic: TopicName | None = None
    audience: Audience | None = None
    platforms: Platforms | None = None
    """None where the sender gave no part of its own to any platform."""
    selection: Selection | None = None
    """Which of the topic's devices; None for all of them."""

    @property
    def log(self) -> TopicName | None:
        """The log that it is published to; None for a message to one device."""
        if self.topic is not None or self.selection is None:
            return self.topic
        return BROADCAST
