"""The interface of a dialect: a way to write the device protocol's frames (docs/protocol.md).

Frames are msgspec structs tagged by `op`; unknown keys are ignored. A dialect is a module in
`gateway.shard.dialects` with a `DIALECT`; it is found there and listed nowhere.
"""

from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Topic = Annotated[str, Meta(min_length=1, max_length=1000)]
_Ref = Annotated[str, Meta(min_length=1, max_length=128)]


class Connect(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="connect"):
    """The first frame."""

    credential: Annotated[str, Meta(max_length=256)]
    sdk: str = ""
    app_version: str = ""
    heartbeat: float = 0
    """Seconds between signs of life that the device asks for; 0: the server's choice."""
    token: Annotated[str, Meta(max_length=256)] = ""
    """The address that the device knows: a `token` frame follows the welcome if it is outdated."""


class AckFrame(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="ack"):
    """Done with these messages."""

    ids: Annotated[list[_Id], Meta(max_length=1000)]


class NackFrame(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="nack"):
    """Send it again later; `retry_after` in seconds."""

    id: _Id
    reason: str = ""
    retry_after: float | None = None


class EventFrame(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="event"):
    """What a person did with a message; `at` in epoch milliseconds."""

    id: _Id
    event: Literal["displayed", "opened", "clicked", "dismissed"]
    at: int | None = None
    action: str = ""


class SendFrame(msgspec.Struct, frozen=True, tag_field="op", tag="send"):
    """A message for the app server."""

    id: _Ref
    data: dict[str, object]


class SubscribeFrame(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="subscribe"):
    """Send what is published to these topics."""

    topics: Annotated[list[_Topic], Meta(min_length=1, max_length=100)]
    ref: _Ref


class UnsubscribeFrame(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="unsubscribe"):
    """Send no more of these topics."""

    topics: Annotated[list[_Topic], Meta(min_length=1, max_length=100)]
    ref: _Ref


class Ping(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="ping"):
    """Asks for a pong."""


DeviceFrame = (
    Connect
    | AckFrame
    | NackFrame
    | EventFrame
    | SendFrame
    | SubscribeFrame
    | UnsubscribeFrame
    | Ping
)


class Welcome(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="welcome"):
    """Connected; `heartbeat` in seconds, `time` in epoch milliseconds."""

    session: str
    device_id: str
    heartbeat: float
    pending: int
    time: int


class Dropped(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="dropped"):
    """So many messages were lost to the pending cap."""

    count: int


class Goaway(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="goaway"):
    """Connect elsewhere after so many seconds."""

    reason: str
    reconnect_after: float


class TokenFrame(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="token"):
    """The device's address was rotated."""

    token: str


class Ok(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="ok"):
    """What `ref` names is stored."""

    ref: str


class Pong(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="pong"):
    """Answers a ping."""


class Error(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="op", tag="error"):
    """A frame could not be served."""

    code: str
    message: str
    ref: str = ""


ServerFrame = Welcome | Dropped | Goaway | TokenFrame | Ok | Pong | Error


class BadFrameError(ValueError):
    """A device's frame cannot be served.

    Args:
        code: one of the protocol's error codes.
        message: tells the developer of the client what is wrong.
        ref: the frame's `ref` or `id`, where it could be read.
    """

    def __init__(self, code: str, message: str, ref: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.ref = ref


class WrongTypeError(Exception):
    """Text came where the dialect takes binary messages, or the other way round (close 1003)."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What can be read of a frame that is otherwise not understood."""

    op: str = ""
    ref: object = ""
    id: object = ""


UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What msgspec raises on a frame; the last for text in msgpack that is not UTF-8."""


_OPS: Final = frozenset(
    {"connect", "ack", "nack", "event", "send", "subscribe", "unsubscribe", "ping"}
)


def complain(envelope: Envelope | None, error: Exception) -> BadFrameError:
    """Tell the developer of the client why a frame was not understood.

    Args:
        envelope: what could be read of it, if anything.
        error: why the whole could not be read.
    """
    if envelope is None:
        return BadFrameError("INVALID_ARGUMENT", "A frame is one map with `op`.")
    refs = (each for each in (envelope.ref, envelope.id) if isinstance(each, str) and each)
    ref = next(refs, "")[:128]
    if envelope.op and envelope.op not in _OPS:
        return BadFrameError("UNIMPLEMENTED", "The server does not know this `op`.", ref)
    return BadFrameError("INVALID_ARGUMENT", str(error)[:200], ref)


class Dialect(Protocol):
    """One way to write frames. Stateless: one object serves all sessions."""

    @property
    def subprotocol(self) -> str:
        """The WebSocket subprotocol that chooses it."""
        ...

    def decode(self, payload: bytes | str) -> DeviceFrame:
        """Read a device's frame.

        Raises:
            BadFrameError: it cannot be served.
            WrongTypeError: binary for text or text for binary.
        """
        ...

    def encode(self, frame: ServerFrame) -> bytes | str:
        """Write a server's frame."""
        ...

    def message(self, frame: bytes) -> bytes | str:
        """Give a stored message frame (msgpack) as this dialect's WebSocket message."""
        ...
