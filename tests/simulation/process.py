"""A process: what runs together, stands still together and dies together, by a clock of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, cast

from typing_extensions import override

from gateway.process import Clock, Entropy, RoleContext
from router.store.connection import Store, StoreOptions
from tests.simulation.clock import OWNER
from tests.simulation.context import Context

STORE_URL = "unix:///simulated"


class SeededEntropy(Entropy):
    """The randomness of a process, from the seed."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @override
    def bytes(self, count: int) -> bytes:
        return self._context.entropy(count)

    @override
    def uniform(self, low: float, high: float) -> float:
        return self._context.rng.uniform(low, high)


class Process(Clock):
    """One life of a process.

    Args:
        context: of the run.
        name: in the trace.
        skew_ms: how far its wall clock is ahead of the true time.
    """

    def __init__(self, context: Context, name: str, skew_ms: int = 0) -> None:
        self.context = context
        self.name = name
        self.skew_ms = skew_ms
        self.alive = True
        self.store_stalled_until = 0.0
        """The store does not take what this process sends before then."""
        self.entropy = SeededEntropy(context)
        self._paused = False
        self._kept: list[asyncio.Handle] = []
        context.processes.append(self)
        self._variables = copy_context()
        self._variables.run(OWNER.set, self)

    @override
    def now_ms(self) -> int:
        return self.context.now_ms() + self.skew_ms

    @override
    def monotonic(self) -> float:
        return self.context.now()

    def takes(self, handle: asyncio.Handle) -> bool:
        """Tell whether a callback of this process may run now (`tests.simulation.clock`)."""
        if self.context.over:
            return True
        if self._paused or not self.alive:
            self._kept.append(handle)
            return False
        return True

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the main task; an error of it fails the run."""
        task = self.context.loop.create_task(work, context=self._variables)
        self.context.tasks.add(task)
        task.add_done_callback(self._ended, context=self.context.nobody)

    def enter(self, callback: Callable[[], object]) -> None:
        """Bring something from outside: it is taken when the process runs."""
        if self._paused and self.alive:
            self._kept.append(asyncio.Handle(callback, (), self.context.loop, self._variables))
        elif self.alive:
            self._variables.run(callback)

    def pause(self) -> None:
        """Stand still, as after SIGSTOP."""
        if self.alive and not self._paused:
            self.context.note(self.name, "stands still")
            self._paused = True

    def resume(self) -> None:
        """Go on, as after SIGCONT, with all that came meanwhile."""
        if self._paused:
            self.context.note(self.name, "goes on")
            self._paused = False
            kept, self._kept = self._kept, []
            self.context.loop.run_again(kept)

    def kill(self) -> None:
        """Die without a word."""
        self.alive = self._paused = False

    def bury(self) -> None:
        """Let what was to come happen after the run: its tasks are cancelled there."""
        self.context.loop.run_again(self._kept)

    def role(self) -> RoleContext:
        """Give what a role needs of its process."""
        return cast("RoleContext", _Role(self))

    def store(self) -> Store:
        """Give the way to the store; who opens it runs in the process."""
        context, scale = self.context, self.context.scale
        options = StoreOptions(
            url=STORE_URL,
            replicas=0 if context.parts.answers_early else scale.replicas,
            max_pending=scale.max_pending,
            ack_timeout_ms=scale.ack_timeout_ms,
        )
        store = Store(options, context.metrics, self.now_ms, self.entropy.bytes)
        store.library = context.parts.functions
        return store

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.context.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.context.crash(self.name, error)


class _Role:
    """`gateway.process.RoleContext`, without what it does to the collector of the interpreter."""

    is_ready = True

    def __init__(self, process: Process) -> None:
        self.name = process.name
        self.clock = process
        self.entropy = process.entropy
        self.metrics = process.context.metrics
        self.stopping = asyncio.Event()
