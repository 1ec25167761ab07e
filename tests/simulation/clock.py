"""An event loop in virtual time: one heap of what happens next, and no waiting.

Each callback belongs to the process in whose context it was made, so that a process can stand
still, as after SIGSTOP, or die: whatever it would do then waits, or never happens.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import ContextVar
from typing import Any, Final, Protocol, cast

from typing_extensions import TypeVarTuple, Unpack, override

_MAX_ROUNDS = 20_000
"""Rounds of the loop within one instant, after which something spins."""


class Owner(Protocol):
    """Whose callbacks are run."""

    def takes(self, handle: asyncio.Handle) -> bool:
        """Tell whether a callback may run now; one that may not is kept, or dropped."""
        ...


OWNER: Final[ContextVar[Owner | None]] = ContextVar("owner", default=None)
Connect = Callable[[asyncio.Protocol], asyncio.Transport]
Given = TypeVarTuple("Given")


class StandstillError(RuntimeError):
    """Nothing is left to happen, or something happens without end in one instant."""


class _Handle(asyncio.Handle):
    __slots__ = ()

    @override
    def _run(self) -> None:
        _run(self, super()._run)


class _TimerHandle(asyncio.TimerHandle):
    __slots__ = ()

    @override
    def _run(self) -> None:
        _run(self, super()._run)


def _run(handle: Any, run: Callable[[], None]) -> None:
    owner = handle._context.get(OWNER)
    if owner is None or owner.takes(handle):
        run()


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their times; the clock jumps from one to the next.

    Nothing here depends on the machine's clock, so a run is a function of its seed.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._rounds = 0
        self._selector = self
        self.connect: Connect | None = None
        """Opens a connection to the store, the only one that there is."""

    @override
    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Stand in for the selector: where the loop would sleep, time passes at once."""
        if timeout is None:
            raise StandstillError("nothing is left to happen")
        if timeout > 0:
            self._now += timeout
            self._rounds = 0
        else:
            self._rounds += 1
            if self._rounds > _MAX_ROUNDS:
                raise StandstillError(f"something spins at {self._now:.3f}")
        return []

    def run_again(self, handles: list[asyncio.Handle]) -> None:
        """Run callbacks that were kept, before all that comes."""
        self._ready.extend(handle for handle in handles if not handle.cancelled())

    def _call_soon(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Variables | None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    @override
    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Given]], object],
        *args: *Given,
        context: Variables | None = None,
    ) -> asyncio.TimerHandle:
        timer: Any = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return cast("asyncio.TimerHandle", timer)

    @override
    async def create_unix_connection(
        self, protocol_factory: Callable[[], Any], path: Any = None, **_options: Any
    ) -> tuple[asyncio.Transport, Any]:
        if self.connect is None:
            raise ConnectionRefusedError(path)
        protocol = protocol_factory()
        return self.connect(protocol), protocol

    def _process_events(self, events: list[Any]) -> None:
        """There is no I/O."""

    def _write_to_self(self) -> None:
        """There are no other threads."""
