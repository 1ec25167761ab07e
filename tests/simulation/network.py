"""Sockets between devices and shards: in order, late, slow, and cut at any moment."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.simulation.context import Context, Line

HIGH_WATER: Final = 400
"""Bytes in a shard's buffer at which its session pauses."""
ABNORMAL: Final = 1006


@dataclass(frozen=True, slots=True)
class Closing:
    """A close frame."""

    code: int
    reason: str


Item = bytes | str | Closing


class End(Protocol):
    """One end of a socket."""

    def on_item(self, item: Item) -> None:
        """Take a frame."""
        ...

    def on_gone(self) -> None:
        """Take it that the connection is lost, without a close frame."""
        ...


class Way:
    """One direction of a socket."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._line = Line(context)
        self._open_until = float("inf")
        self._waiting: deque[tuple[Item, ...]] = deque()
        self.end: End | None = None
        self.buffered = 0
        """Bytes that the reader's slowness holds up."""
        self.stuck = False
        self.on_drained: Callable[[], None] = lambda: None

    def send(self, *items: Item) -> None:
        """Send; what is written at once arrives at once."""
        if self.stuck:
            self._waiting.append(items)
            self.buffered += sum(0 if isinstance(item, Closing) else len(item) for item in items)
        else:
            self._fly(items)

    def release(self) -> None:
        """Let the reader read again."""
        self.stuck = False
        while self._waiting:
            self._fly(self._waiting.popleft())
        self.buffered = 0
        if self._context.now() < self._open_until:
            self.on_drained()

    def cut(self) -> None:
        """Lose what is sent from now on, and some of what is under way."""
        delay_s = self._context.rng.uniform(0, self._context.faults.net_delay_s)
        self._open_until = min(self._open_until, self._context.now() + delay_s)

    def tell_gone(self) -> None:
        """Let the reader learn, behind what still arrives, that the connection is lost."""
        self._line.after(self._delay(), self._gone)

    def _fly(self, items: tuple[Item, ...]) -> None:
        self._line.after(self._delay(), lambda: self._arrive(items))

    def _delay(self) -> float:
        return self._context.rng.uniform(0, self._context.faults.net_delay_s)

    def _arrive(self, items: tuple[Item, ...]) -> None:
        if self.end is not None and self._context.now() <= self._open_until:
            for item in items:
                self.end.on_item(item)

    def _gone(self) -> None:
        if self.end is not None:
            self.end.on_gone()


class Socket:
    """A connection of a device to a shard."""

    def __init__(self, context: Context, name: str) -> None:
        self.name = name
        self.up = Way(context)
        """From the device to the shard."""
        self.down = Way(context)
        self.cut_off = False

    def cut(self, *, device_learns: bool = True, shard_learns: bool = True) -> None:
        """End it midway; an end that does not learn of it finds out by itself, or never."""
        self.cut_off = True
        self.up.cut()
        self.down.cut()
        if device_learns:
            self.down.tell_gone()
        if shard_learns:
            self.up.tell_gone()


class Hearer(Protocol):
    """Who has one socket after another."""

    def on_item(self, socket: Socket, item: Item) -> None:
        """Take a frame of a socket."""
        ...

    def on_gone(self, socket: Socket) -> None:
        """Take it that a socket is lost."""
        ...


class Ear:
    """Brings what comes over one socket to its owner, who may have another one by then."""

    def __init__(self, owner: Hearer, socket: Socket) -> None:
        self._owner = owner
        self._socket = socket

    def on_item(self, item: Item) -> None:
        self._owner.on_item(self._socket, item)

    def on_gone(self) -> None:
        self._owner.on_gone(self._socket)


class Network(Protocol):
    """How a device reaches a shard."""

    def connect(self, process: Any, attempt: int) -> None:
        """Open a socket; answer `on_open` or `on_refused`."""
        ...
