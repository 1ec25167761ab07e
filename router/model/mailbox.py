"""What goes into a mailbox and what comes out of it."""

import enum

import msgspec

from router.model.hint import Route
from router.model.ids import DeviceId, MessageId, Partition, ProjectId
from router.model.limits import UNLIMITED, Rate
from router.model.message import Priority
from router.model.topic import Standing


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message on its way into one mailbox. Times in epoch milliseconds.

    `expires_ms == now_ms` means a TTL of 0: now or never, and never stored.
    """

    project: ProjectId
    partition: Partition
    device: DeviceId
    nonce: str
    """Proves that the mailbox is the right one: of the device's token; or, for a copy of a message
    to a user or a group, `u:<user>` or `ca:<when the device had registered>`."""
    message: MessageId
    frame: bytes
    now_ms: int
    """When the message was accepted."""
    expires_ms: int
    priority: Priority = Priority.NORMAL
    collapse_key: str = ""
    send_at_ms: int = 0
    """When a scheduled message enters the mailbox; 0 for at once."""
    idempotency_key: str = ""
    idempotency_digest: str = ""
    """SHA-256 of the request, so that a key used again for another request is noticed."""
    label: str = ""
    """FCM's `analytics_label`; it stands in the status."""
    rate: Rate = UNLIMITED
    """What its device takes."""
    bridge: str = ""
    """When a bridge takes over (`router.policy.takeover`); empty for never."""
    part: bytes = b""
    """What bridges need beside the frame (`router.policy.bridge_part`)."""
    unfit: str = ""
    """Names of bridges that cannot carry it, apart by spaces: a device with one refuses it."""


class EnqueueResult(enum.Enum):
    """How an enqueue ended."""

    ACCEPTED = "ok"
    REPEATED = "repeat"
    """The idempotency key was seen: `message` is the first one's id. Nothing was stored."""
    UNREGISTERED = "unregistered"
    SENDER_ID_MISMATCH = "mismatch"
    KEY_REUSED = "reused"
    """The idempotency key was seen with another request."""
    THROTTLED = "throttled"
    """The device got too many lately."""
    UNFIT = "unfit"
    """The device's bridge cannot carry the message. Nothing was stored."""


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """What became of an enqueue."""

    result: EnqueueResult
    message: MessageId
    seq: int = 0
    """Number of the message in its mailbox; 0 where the mailbox does not hold it."""
    route: Route | None = None
    """Where the device is connected, if a shard said so last. The shard may be dead."""
    device: DeviceId = DeviceId("")
    """Set by a release alone, as are the two below: what the caller needs for its hint."""
    expires_ms: int = 0
    frame: bytes = b""
    wait_us: int = 0
    """Of a throttled one: until the next is taken."""
    bridge: str = ""
    """Of an unfit one: which bridge cannot carry it."""


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A message that waits in a mailbox."""

    seq: int
    message: MessageId
    expires_ms: int
    frame: bytes


class Window(msgspec.Struct, frozen=True):
    """A piece of a mailbox, in order of seq."""

    messages: tuple[Pending, ...]
    head: int
    """The highest seq that the mailbox has given out."""
    more: bool
    """Whether messages beyond the last one of this window wait."""
    dropped: int = 0
    """Messages lost to the pending cap since the device registered."""


class AttachResult(enum.Enum):
    """How an attach ended."""

    ATTACHED = "ok"
    BAD_CREDENTIAL = "credential"
    UNREGISTERED = "unregistered"
    OVERTAKEN = "overtaken"
    """A connection that came later was attached first. Nothing changed."""


class Attached(msgspec.Struct, frozen=True):
    """What a device's new session starts from."""

    result: AttachResult
    epoch: int = 0
    project: ProjectId = ProjectId("")
    pending: int = 0
    token_nonce: str = ""
    window: Window = Window((), 0, more=False)
    displaced: Route | None = None
    """The session that this one takes over from."""
    drops_known: int = 0
    """Of `window.dropped`, how many the device knows of: it acked what came after its notice."""
    standing: Standing = Standing()


class Ack(msgspec.Struct, frozen=True, gc=False):
    """One acked message.

    `seq` is 0 where the session did not send the message itself (the function then looks it up).
    `sent_ms` is when the frame was written, 0 where that was told before.
    """

    message: MessageId
    seq: int
    sent_ms: int
