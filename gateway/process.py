"""Run one role as a process: event loop, signals, stop deadline, clocks, readiness.

A role is `async def run(settings, context) -> None`: it serves until `context.stopping` is set,
then drains and returns. Whoever starts it (the supervisor, the command line) calls `run_role`.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

import msgspec
import structlog
import uvloop
from prometheus_client import CollectorRegistry

from gateway.settings import Settings
from router.model.errors import ErrorCode, PushError
from router.telemetry.metrics import Metrics

_PR_SET_PDEATHSIG: Final = 1
_LAG_INTERVAL_S: Final = 0.5
_ABORT_GRACE_S: Final = 2.0
_ORPHAN_GRACE_S: Final = 5.0
_PARENT_POLL_S: Final = 1.0

_POOL_BYTES: Final = 4096
_COLLECT_AT: Final = 10_000
"""Objects made until the garbage collector looks: far more than one request has in flight, so that
it finds them gone, and does not carry them into its older generations."""

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1

_log: structlog.stdlib.BoundLogger = structlog.get_logger("process")


class Clock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Give the wall clock in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Give seconds on a clock that never goes back."""
        return time.monotonic()


class Entropy:
    """The machine's randomness."""

    def __init__(self) -> None:
        self._pool = b""
        self._taken = 0

    def bytes(self, count: int) -> bytes:
        """Give `count` bytes fit for secrets.

        They come out of a pool: a call of the kernel costs more than the rest of a message's id.
        """
        start = self._taken
        if start + count > len(self._pool):
            self._pool = os.urandom(max(count, _POOL_BYTES))
            start = 0
        self._taken = start + count
        return self._pool[start : self._taken]

    def uniform(self, low: float, high: float) -> float:
        """Give a number in [low, high], fit for jitter, not for secrets."""
        return random.uniform(low, high)  # noqa: S311 - jitter


class Supervision(msgspec.Struct, frozen=True):
    """What a supervisor hands to a process that it starts."""

    ready_fd: int
    """Where the one line of readiness goes."""
    parent: int
    """Process id of the supervisor: without it the process ends."""
    name: str
    """What the supervisor calls the process, as `shard-1`."""


class RoleContext:
    """What a role needs of its process.

    Args:
        name: of the process, as `shard-0`; stands in logs.
        clock: wall and monotonic time.
        entropy: randomness.
        registry: where `metrics` are registered.
        ready: see `ready`.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        entropy: Entropy,
        registry: CollectorRegistry,
        ready: Callable[[dict[str, str]], None],
    ) -> None:
        self.name = name
        self.clock = clock
        self.entropy = entropy
        self.registry = registry
        self.metrics = Metrics(registry)
        self.stopping = asyncio.Event()
        """Set once, by SIGTERM or SIGINT: drain and return."""
        self.is_ready = False
        """Whether the role serves."""
        self._ready = ready

    def ready(self, facts: dict[str, str]) -> None:
        """Tell whoever started the process that it serves, e.g. `{"url": …}`. Call it once."""
        self.is_ready = True
        # Whatever start-up made lives as long as the process: the collector need not look at it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AT)
        self._ready(facts)


Role = Callable[[Settings, RoleContext], Awaitable[None]]
Companion = Callable[[Settings, RoleContext], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def alone(_settings: Settings, _context: RoleContext) -> AsyncIterator[None]:
    """Run nothing beside a role."""
    yield


@contextlib.contextmanager
def opening(setting: str, host: str, port: int) -> Iterator[None]:
    """Tell in words, instead of by an OSError, that a port cannot be had.

    Args:
        setting: the name of the port's setting.
        host: address to listen on.
        port: to listen on.

    Raises:
        PushError: it is taken, or not ours to bind.
    """
    try:
        yield
    except OSError as error:
        flag = "--" + setting.replace("_", "-")
        raise PushError(
            ErrorCode.UNAVAILABLE,
            f"{setting}: cannot listen on {host}:{port} ({error.strerror}); choose another {flag}",
        ) from error


def tie_to_parent(parent: int, signal_number: int = signal.SIGTERM) -> Callable[[], None]:
    """Give a `preexec_fn`: the child gets `signal_number` when the process `parent` dies.

    The setting outlives `exec`. Where the kernel has no such thing (not Linux) it does nothing.
    """
    if not sys.platform.startswith("linux"):  # pragma: no cover - other systems
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != parent:  # it died before prctl took hold
            os._exit(EXIT_FAILED)

    return tie


def run_role(
    name: str,
    role: Role,
    settings: Settings,
    *,
    supervision: Supervision | None = None,
    beside: Companion = alone,
    stop_timeout_s: float | None = None,
) -> int:
    """Run a role until it ends or is told to stop, and give the exit code of the process.

    The first SIGTERM or SIGINT sets `context.stopping`. The role is cancelled when it then takes
    longer than `stop_timeout_s` (default: the setting) or at the second signal; both give 1.

    Args:
        name: of the process, for logs.
        role: what to run.
        settings: of the role.
        supervision: set where a supervisor started this process.
        beside: a context in which the role runs (its own ops port).
        stop_timeout_s: seconds to drain in.

    Raises:
        PushError: the role refused to run, for a reason that the user can act on.
    """
    refusals: list[PushError] = []
    if supervision is not None:
        _watch_parent(supervision.parent)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            context = runner.run(_context(name, supervision))
            timeout_s = settings.stop_timeout_s if stop_timeout_s is None else stop_timeout_s
            return runner.run(_serve(role, settings, context, beside, timeout_s))
    except* PushError as group:
        refusals = _leaves(group)
    except* Exception:  # noqa: BLE001 - the last stop of a process: logged, told by its exit code
        _log.exception("role.failed")
    if refusals:
        raise refusals[0]
    return EXIT_FAILED


async def _context(name: str, supervision: Supervision | None) -> RoleContext:
    def ready(facts: Mapping[str, str]) -> None:
        _log.info("role.ready", **facts)
        if supervision is not None:
            with contextlib.suppress(OSError):  # the supervisor is gone: the parent watch acts
                os.write(supervision.ready_fd, msgspec.json.encode(facts) + b"\n")
                os.close(supervision.ready_fd)

    return RoleContext(name, Clock(), Entropy(), CollectorRegistry(), ready)


async def _serve(
    role: Role,
    settings: Settings,
    context: RoleContext,
    beside: Companion,
    timeout_s: float,
) -> int:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        await stack.enter_async_context(beside(settings, context))

        async def serve() -> None:
            await role(settings, context)

        main = group.create_task(serve(), name=context.name)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _on_signal, context, main)
            stack.callback(loop.remove_signal_handler, number)
        tasks = [
            group.create_task(_limit_stop(context, main, timeout_s)),
            group.create_task(_sample_lag(context)),
        ]
        await asyncio.wait({main})
        for task in tasks:
            task.cancel()
    if main.cancelled():
        _log.error("role.aborted")
        return EXIT_FAILED
    _log.info("role.stopped")
    return EXIT_OK


def _on_signal(context: RoleContext, main: asyncio.Task[None]) -> None:
    if context.stopping.is_set():
        main.cancel()
        return
    _log.info("role.stopping")
    context.stopping.set()


async def _limit_stop(context: RoleContext, main: asyncio.Task[None], timeout_s: float) -> None:
    await context.stopping.wait()
    await asyncio.sleep(timeout_s)
    _log.error("role.stop_timeout", timeout_s=timeout_s)
    main.cancel()
    await asyncio.sleep(_ABORT_GRACE_S)
    os._exit(EXIT_FAILED)  # it does not even heed its cancellation


async def _sample_lag(context: RoleContext) -> None:
    while True:
        before = context.clock.monotonic()
        await asyncio.sleep(_LAG_INTERVAL_S)
        late = context.clock.monotonic() - before - _LAG_INTERVAL_S
        context.metrics.loop_lag.observe(max(0.0, late))


def _watch_parent(parent: int) -> None:
    """End this process when its supervisor is gone, even where the event loop is stuck."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_GRACE_S)
        os._exit(EXIT_FAILED)

    tie_to_parent(parent)()
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _leaves(group: BaseExceptionGroup[PushError]) -> list[PushError]:
    found: list[PushError] = []
    for member in group.exceptions:
        found.extend(_leaves(member) if isinstance(member, BaseExceptionGroup) else [member])
    return found
