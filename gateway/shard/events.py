"""What goes into a session and what it asks for: inputs, actions, states, limits.

A session reads no clock and does no I/O. Each of its inputs returns actions, in the order in which
they are to be carried out. `Send`, `Relay` and `Close` are the connection's; all others are
the shard's.
"""

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from router.model.errors import CloseCode
from router.model.ids import DeviceId, MessageId, ShardId, TopicName
from router.model.mailbox import Ack
from router.model.receipt import Event


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write one WebSocket message: bytes as binary, str as text."""

    payload: bytes | str


class Relay(msgspec.Struct, frozen=True, gc=False):
    """Write a whole WebSocket frame, built once for all sessions that it goes to."""

    data: bytes


class Close(msgspec.Struct, frozen=True, gc=False):
    """Write what is buffered, then a close frame. The session takes no more input."""

    code: CloseCode
    reason: str


class Attach(msgspec.Struct, frozen=True, gc=False):
    """Take the device over for this session; answer `on_attached` or `on_unavailable`."""

    device: DeviceId
    credential_hash: str
    limit: int
    """How many pending messages to bring along."""
    sdk: str = ""
    app_version: str = ""


class Fetch(msgspec.Struct, frozen=True, gc=False):
    """Read the mailbox beyond `after_seq`; answer `on_fetched` or `on_unavailable`.

    What the session told of acks and nacks before must reach the store before this read.
    """

    after_seq: int
    limit: int


class Acked(msgspec.Struct, frozen=True, gc=False):
    """The device is done with these."""

    acks: tuple[Ack, ...]
    drops_known: int = 0
    """Of how many messages lost to the pending cap this proves that the device has heard."""


class Nacked(msgspec.Struct, frozen=True, gc=False):
    """The device wants this one again, not before the time given (epoch milliseconds)."""

    message: MessageId
    seq: int
    """0 where the session did not send it."""
    reason: str
    not_before_ms: int


class Sent(msgspec.Struct, frozen=True, gc=False):
    """These were written a while ago and are not acked yet."""

    acks: tuple[Ack, ...]


class Engaged(msgspec.Struct, frozen=True, gc=False):
    """A person did something with a message."""

    message: MessageId
    event: Event
    at_ms: int
    detail: str


class Upstream(msgspec.Struct, frozen=True, gc=False):
    """The device sends to its app server; answer `on_done` with `ref` once it is stored."""

    ref: str
    data: bytes
    """A JSON object."""


class TopicEngaged(msgspec.Struct, frozen=True, gc=False):
    """A person did something with a message to a topic.

    `sent` where it is in flight in this session, so that the device was sent it for certain.
    """

    message: MessageId
    event: Event
    at_ms: int
    detail: str = ""
    sent: bool = False


class ReadTopic(msgspec.Struct, frozen=True, gc=False):
    """Read a topic's log from behind a seq; answer `on_topic_read` or `on_topic_away`."""

    topic: TopicName
    after: int


class ChangeTopics(msgspec.Struct, frozen=True, gc=False):
    """Subscribe to topics or unsubscribe; answer `on_topics`, then `on_done` with `ref`."""

    ref: str
    topics: tuple[TopicName, ...]
    subscribe: bool


class ReadSubscriptions(msgspec.Struct, frozen=True, gc=False):
    """Somebody else changed what the device subscribes to: answer `on_topics`."""


class CursorsMoved(msgspec.Struct, frozen=True, gc=False):
    """There will be something in `take_cursors`: store it within a few seconds."""


class SaveCursors(msgspec.Struct, frozen=True, gc=False):
    """Store these, as the session is over."""

    cursors: tuple[tuple[TopicName, int], ...]


class Detach(msgspec.Struct, frozen=True, gc=False):
    """The session is over: give up the route."""


TopicAction = (
    TopicEngaged | ReadTopic | ChangeTopics | ReadSubscriptions | CursorsMoved | SaveCursors
)
Action = (
    Send
    | Relay
    | Close
    | Attach
    | Fetch
    | Acked
    | Nacked
    | Sent
    | Engaged
    | Upstream
    | Detach
    | TopicAction
)

MAX_FETCH: Final = 128
"""Messages that one read of a mailbox returns at the most."""


CRITICAL_ROOM: Final = 8
"""Critical messages that may be in flight beyond the window, so that bulk never shuts them out."""


class Tally(msgspec.Struct, gc=False):
    """Counters that all sessions of a process add to; the shard moves them into its metrics."""

    deliveries: int = 0
    redeliveries: int = 0


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What all sessions of a shard share; durations in milliseconds."""

    shard: ShardId
    tally: Tally
    window: int = 64
    """Unacked messages in flight."""
    ack_timeout_ms: int = 15_000
    heartbeat_ms: int = 240_000
    """Where the device names none."""
    connect_timeout_ms: int = 10_000
    sent_after_ms: int = 1_000
    """How long a message stays unacked until the session tells that it was sent."""
    live_grace_ms: int = 3_000
    """How late a message with a TTL of 0 may still be written."""
    retry_ms: int = 1_000
    """Until a read is tried again that the store did not answer."""
    max_errors: int = 10
    """Bad frames that a device may send before it is disconnected."""
    max_upstream: int = 16
    """Upstream messages that may wait for the store."""
    settle_ms: int = 5_000
    """How long the session remembers an ack that may still be on its way into the store."""
    max_settled: int = 1_024


class State(enum.IntEnum):
    """Where a session is in its life."""

    CONNECTING = 0
    """The connect frame is awaited."""
    ATTACHING = 1
    """The store is asked for the device."""
    LIVE = 2
    DRAINING = 3
    """As LIVE, but the device was told to go elsewhere."""
    CLOSED = 4


class Input(enum.Enum):
    """What can happen to a session."""

    CONNECT = "connect frame"
    FRAME = "other frame"
    BAD_FRAME = "bad frame"
    ATTACHED = "attached"
    UNAVAILABLE = "store away"
    FETCHED = "fetched"
    HINT = "hint"
    DONE = "stored"
    TOPIC = "topic"
    WRITABLE = "writable"
    TIMER = "timer"
    GOAWAY = "drain"
    CLOSED = "socket gone"


class SessionError(RuntimeError):
    """The shard gave a session an input that its state does not know: a defect of the shard."""


def _to(*states: State) -> frozenset[State]:
    return frozenset(states)


_LIVE: Final = {
    Input.CONNECT: _to(State.CLOSED),
    Input.FRAME: _to(State.LIVE, State.CLOSED),
    Input.BAD_FRAME: _to(State.LIVE, State.CLOSED),
    Input.UNAVAILABLE: _to(State.LIVE),
    Input.FETCHED: _to(State.LIVE, State.CLOSED),
    Input.HINT: _to(State.LIVE, State.CLOSED),
    Input.DONE: _to(State.LIVE),
    Input.TOPIC: _to(State.LIVE),
    Input.WRITABLE: _to(State.LIVE),
    Input.TIMER: _to(State.LIVE, State.CLOSED),
    Input.GOAWAY: _to(State.DRAINING),
    Input.CLOSED: _to(State.CLOSED),
}

TRANSITIONS: Final[Mapping[State, Mapping[Input, frozenset[State]]]] = {
    State.CONNECTING: {
        Input.CONNECT: _to(State.ATTACHING, State.CLOSED),
        Input.FRAME: _to(State.CLOSED),
        Input.BAD_FRAME: _to(State.CLOSED),
        Input.HINT: _to(State.CONNECTING),
        Input.WRITABLE: _to(State.CONNECTING),
        Input.TIMER: _to(State.CONNECTING, State.CLOSED),
        Input.GOAWAY: _to(State.CLOSED),
        Input.CLOSED: _to(State.CLOSED),
    },
    State.ATTACHING: {
        Input.CONNECT: _to(State.CLOSED),
        Input.FRAME: _to(State.ATTACHING, State.CLOSED),
        Input.BAD_FRAME: _to(State.ATTACHING, State.CLOSED),
        Input.ATTACHED: _to(State.LIVE, State.CLOSED),
        Input.UNAVAILABLE: _to(State.CLOSED),
        Input.HINT: _to(State.ATTACHING),
        Input.WRITABLE: _to(State.ATTACHING),
        Input.TIMER: _to(State.ATTACHING, State.CLOSED),
        Input.GOAWAY: _to(State.CLOSED),
        Input.CLOSED: _to(State.CLOSED),
    },
    State.LIVE: _LIVE,
    State.DRAINING: {
        cause: frozenset(State.DRAINING if state is State.LIVE else state for state in states)
        for cause, states in _LIVE.items()
    },
    State.CLOSED: dict.fromkeys(Input, _to(State.CLOSED)),
}
"""Every state and what each input may make of it; an input that is missing is a SessionError."""
