"""Messages to topics, and subscriptions."""

import enum

import msgspec

from router.model.ids import MessageId, ProjectId, ShardId, TopicName
from router.model.lane import Lane
from router.model.limits import UNLIMITED, Rate
from router.model.message import ReceiptMode
from router.model.receipt import Event
from router.model.selection import Profile

MAX_TOPICS = 2_000
"""Topics of one device."""


class TopicEnvelope(msgspec.Struct, frozen=True, gc=False):
    """A message on its way into a topic's log. Times in epoch milliseconds.

    `expires_ms == now_ms` means a TTL of 0: those who are connected, or nobody.
    """

    project: ProjectId
    topic: TopicName
    message: MessageId
    frame: bytes
    now_ms: int
    expires_ms: int
    receipts: ReceiptMode = ReceiptMode.AGGREGATE
    collapse_key: str = ""
    lane: Lane = Lane.NORMAL
    selection: str = ""
    send_at_ms: int = 0
    """When a scheduled message enters the log; 0 for at once."""
    idempotency_key: str = ""
    idempotency_digest: str = ""
    label: str = ""
    rate: Rate = UNLIMITED
    """What its topic takes."""
    bridge: str = ""
    """When a bridge takes over (`router.policy.takeover`); empty for never."""
    part: bytes = b""


class PublishResult(enum.Enum):
    """How a publish ended."""

    ACCEPTED = "ok"
    REPEATED = "repeat"
    KEY_REUSED = "reused"
    THROTTLED = "throttled"


class Published(msgspec.Struct, frozen=True, gc=False):
    """What became of a publish; `shards` are those that follow the topic."""

    result: PublishResult
    message: MessageId
    seq: int = 0
    previous: int = 0
    shards: tuple[ShardId, ...] = ()
    wait_us: int = 0
    """Of a throttled one: until the next is taken."""


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """A message in a topic's log."""

    seq: int
    message: MessageId
    expires_ms: int
    receipts: ReceiptMode
    collapse_key: str
    frame: bytes
    selection: str = ""


class LogPage(msgspec.Struct, frozen=True):
    """A piece of a log in order of seq: all that stands in it behind the start, up to `upto`."""

    entries: tuple[LogEntry, ...]
    upto: int
    full: bool
    """Whether more may stand behind `upto`."""


class Standing(msgspec.Struct, frozen=True):
    """What decides which published messages a device gets."""

    topics: tuple[tuple[TopicName, int], ...] = ()
    """What it subscribes to, and up to which seq it has acked."""
    broadcast: int = 0
    """The same of the project's broadcast log; at first, when the device registered."""
    profile: Profile = Profile()


class SubscribeResult(enum.Enum):
    """How a change of a device's subscriptions ended."""

    DONE = "ok"
    UNREGISTERED = "unregistered"
    """There is no such device, its token is another one, or the session is over."""
    SENDER_ID_MISMATCH = "mismatch"
    TOO_MANY = "too many"


class TopicStats(msgspec.Struct, frozen=True):
    """What stands behind a topic."""

    subscribers: int
    messages: int
    """In its log; some may have expired."""


class DeviceEvent(msgspec.Struct, frozen=True, gc=False):
    """What one device did with a message to a topic."""

    device: str
    event: Event
    time_ms: int
