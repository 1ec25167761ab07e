"""The session: the state machine of one device's connection, without I/O."""

from collections.abc import Sequence
from typing import Final

from gateway.shard.dialect import Dialect
from gateway.shard.events import Action, SessionLimits
from router.model.hint import Hint
from router.model.ids import DeviceId
from router.model.mailbox import Attached, Window

_NOTHING: Final[tuple[Action, ...]] = ()


class Session:
    """One connection's protocol; every input returns the actions to carry out, in order.

    Args:
        dialect: how this device writes frames.
        limits: what all sessions of the shard share.
        now_ms: the time, epoch milliseconds, as in every input.
    """

    __slots__ = ("deadline_ms", "device", "epoch")

    def __init__(self, dialect: Dialect, limits: SessionLimits, now_ms: int) -> None:
        self.device: DeviceId | None = None
        self.epoch = 0
        self.deadline_ms = now_ms + limits.connect_timeout_ms
        """When `on_timer` next wants a call; 0 for never. It may move to an earlier time at any input."""

    def on_message(self, payload: bytes | str, now_ms: int) -> Sequence[Action]:
        """Take one whole WebSocket message: str for text, bytes for binary."""
        return _NOTHING

    def on_alive(self, now_ms: int) -> None:
        """Take any sign of life: a frame, a ping, a pong."""

    def on_attached(self, attached: Attached, now_ms: int) -> Sequence[Action]:
        """Take the answer to `Attach`."""
        return _NOTHING

    def on_unavailable(self, now_ms: int) -> Sequence[Action]:
        """Take it that the store did not answer `Attach` or `Fetch`."""
        return _NOTHING

    def on_fetched(self, window: Window | None, now_ms: int) -> Sequence[Action]:
        """Take the answer to `Fetch`; None: the epoch is stale or the device gone."""
        return _NOTHING

    def on_hint(self, hint: Hint, now_ms: int) -> Sequence[Action]:
        """Take a hint from the shard's inbox."""
        return _NOTHING

    def on_done(self, ref: str, error: str | None, now_ms: int) -> Sequence[Action]:
        """Take the answer to `Upstream`: None once it is stored, otherwise an error's text."""
        return _NOTHING

    def on_writable(self, writable: bool, now_ms: int) -> Sequence[Action]:  # noqa: FBT001 - a state
        """Take it that the transport's buffer is full, or has room again."""
        return _NOTHING

    def on_timer(self, now_ms: int) -> Sequence[Action]:
        """Take it that `deadline_ms` has come."""
        return _NOTHING

    def on_goaway(self, reason: str, reconnect_after_s: float, now_ms: int) -> Sequence[Action]:
        """Ask the device to connect elsewhere after so many seconds."""
        return _NOTHING

    def on_closed(self, now_ms: int) -> Sequence[Action]:
        """Take it that the socket is gone."""
        return _NOTHING
