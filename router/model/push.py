"""A push: what a bridge needs of a message, whichever device it goes to."""

import hashlib

import msgspec

from router.model.ids import DeviceId, MessageId
from router.model.message import Notification, Priority


class Push(msgspec.Struct, frozen=True):
    """One message for the bridges; times in epoch milliseconds.

    `notification` and `data` are the common ones: what a platform overrides stands in its own part
    (`android`, `apns`, `webpush`: valid FCM v1 objects in snake_case).
    """

    id: MessageId
    sent_ms: int
    expires_ms: int
    """Equal to `sent_ms`: now or never, no provider may store it."""
    priority: Priority = Priority.NORMAL
    topic: str = ""
    collapse_key: str = ""
    notification: Notification | None = None
    data: dict[str, str] = {}
    android: dict[str, object] = {}
    apns: dict[str, object] = {}
    webpush: dict[str, object] = {}
    label: str = ""
    """FCM's `analytics_label`."""

    @property
    def now_or_never(self) -> bool:
        """Whether the sender gave a TTL of 0."""
        return self.expires_ms <= self.sent_ms

    def remaining_s(self, now_ms: int) -> int:
        """Give the whole seconds that are left, rounded up; 0 for now or never, and past the end.

        Rounded up, so that a message that is not over never becomes now or never; and never more
        than its TTL, though our clock may be behind the one that accepted it.
        """
        left_ms = self.expires_ms - max(now_ms, self.sent_ms)
        return 0 if self.now_or_never else max(0, -(-left_ms // 1000))


def push_uuid(message: MessageId, device: DeviceId) -> str:
    """Make the UUID of a message to a device (version 8 of RFC 9562): each try carries the same."""
    digits = hashlib.sha256(f"{message}|{device}".encode()).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
