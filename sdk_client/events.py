"""What the SDK's session asks for, and its states; `sdk_client.session` explains them."""

import enum
from dataclasses import dataclass

from sdk_client.errors import DisconnectedError, PushwireError
from sdk_client.wire import MessageFrame


class ConnectionState(enum.StrEnum):
    """Where the connection of a device is in its life."""

    IDLE = "idle"
    """Nobody asked for a connection yet."""
    CONNECTING = "connecting"
    """A socket is being opened, or the gateway's welcome is awaited."""
    CONNECTED = "connected"
    """Messages arrive."""
    WAITING = "waiting"
    """The connection ended; after a pause it is tried again."""
    STOPPED = "stopped"
    """Ended for good, by the gateway (see `DisconnectedError`) or by `close()`."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a WebSocket; answer `on_open` or `on_lost`."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Write one WebSocket message: bytes as binary, str as text."""

    payload: bytes | str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Write what was transmitted, then close the socket; `on_lost` need not follow.

    `abort` means that the peer is gone: do not wait for its close frame.
    """

    code: int
    reason: str
    abort: bool = False


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give this message to the app's handler, after all that were delivered before."""

    message: MessageFrame


@dataclass(frozen=True, slots=True)
class Lost:
    """Tell the app that so many messages were lost to the pending cap."""

    count: int


@dataclass(frozen=True, slots=True)
class Readdress:
    """Keep the device's new token."""

    token: str


@dataclass(frozen=True, slots=True)
class Settle:
    """A request is over: done where `error` is None."""

    ref: str
    error: PushwireError | None


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the app of a new state."""

    state: ConnectionState
    detail: str


@dataclass(frozen=True, slots=True)
class Complain:
    """Log what the gateway said or did that the session cannot act on; `event` names it."""

    event: str
    detail: str


@dataclass(frozen=True, slots=True)
class Stop:
    """It is over for good; no more actions follow, all inputs are ignored."""

    error: DisconnectedError


Action = (
    Connect | Transmit | Disconnect | Deliver | Lost | Readdress | Settle | Report | Complain | Stop
)
