"""A push: what a bridge needs of a message, whichever device it goes to."""

import msgspec

from router.model.ids import MessageId
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

        Rounded up, so that a message that is not over never becomes now or never.
        """
        return 0 if self.now_or_never else max(0, -((now_ms - self.expires_ms) // 1000))
