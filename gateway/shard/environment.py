"""What the connections of a shard share, and what the shard does for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from gateway.shard.dialect import Dialect
from gateway.shard.events import Action, SessionLimits
from gateway.shard.handshake import Refusal, Terms
from gateway.shard.timer_wheel import TimerWheel

FULL_RETRY_S: Final = 5

Held_contra = TypeVar("Held_contra", contravariant=True)
Kept = TypeVar("Kept")
"""Both stand for the connection, which knows this module."""


class Services(Protocol[Held_contra]):
    """What the shard does for its connections."""

    def admit(self) -> Refusal | None:
        """Tell whether a handshake is served now; a refusal is answered with 503."""
        ...

    def opened(self, connection: Held_contra) -> None:
        """Take it that the handshake is done: `connection.session` stands."""
        ...

    def perform(self, connection: Held_contra, action: Action) -> None:
        """Carry out an action; its answer goes into the session, and the outcome to `carry_out`."""
        ...

    def closed(self, connection: Held_contra, reason: str) -> None:
        """Take it that the session is over: once for each `opened`, after its last action.

        `reason` is one of a few words: the name of a close code in lower case, `going_away`,
        `client_close` or `lost`.
        """
        ...


class Doorkeeper(Protocol):
    """Judges connections by the address that they come from."""

    def at_accept(self, peer: str) -> Refusal | None:
        """Judge a socket."""
        ...

    def behind_proxy(
        self, peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str]
    ) -> Refusal | None:
        """Judge a request whose socket may be a proxy's."""
        ...


class Environment(msgspec.Struct, Generic[Kept], kw_only=True):
    """What all connections of a shard share; durations in milliseconds."""

    services: Services[Kept]
    admit: Callable[[], Refusal | None]
    refused: Callable[[str], None]
    """Told of each handshake that came to nothing, with one of a few words."""
    wheel: TimerWheel[Kept]
    now_ms: Callable[[], int]
    terms: Terms
    dialects: Mapping[str, Dialect]
    limits: SessionLimits
    max_frame_bytes: int
    handshake_ms: int
    slow_consumer_ms: int
    close_ms: int = 5_000
    """How long a peer may take to answer a close frame, and to take the last bytes."""
    max_sockets: int
    """Beyond it a socket is refused before its request is read."""
    emptied: Callable[[], None]
    """Called when the last socket is gone."""
    sockets: int = 0
    """From accept to end; under TLS, those whose handshake of TLS is under way too."""
    entered: bool = False
    """Whether sockets have entered before a connection has them: before their TLS."""
    doorkeeper: Doorkeeper | None = None
    """Judges by address; None lets everybody in."""
    frame_ms: float = 0.0
    """A device may send a frame in so many milliseconds; 0: no limit."""
    frames_ms: float = 0.0
    """So far ahead of that it may be."""

    def enter(self, peer: str) -> Refusal | None:
        """Count a socket, and judge it by the number of all and by the address of its peer."""
        self.sockets += 1
        if self.sockets > self.max_sockets:
            return Refusal("full", FULL_RETRY_S)
        return None if self.doorkeeper is None else self.doorkeeper.at_accept(peer)

    def leave(self) -> None:
        """Count a socket no longer."""
        self.sockets -= 1
        if not self.sockets:
            self.emptied()

    def pace(self, until_ms: float, now_ms: int, frames: int) -> float:
        """Give how far the frames of a device reach, at the rate that is accepted.

        Args:
            until_ms: how far they reached before; 0 for a device that sent none.
            now_ms: the time.
            frames: that came now.

        Returns:
            Up to when they reach; -1 where that is too far ahead.
        """
        if not self.frame_ms:
            return 0.0
        # Further ahead than it can get, it was put there by a clock that has been set back.
        start_ms = min(max(until_ms, now_ms), now_ms + self.frames_ms)
        reach_ms = start_ms + frames * self.frame_ms
        return -1.0 if reach_ms - now_ms > self.frames_ms else reach_ms
