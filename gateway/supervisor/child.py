"""One process of a role: started, watched, started again, stopped."""

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from gateway.ops import forget_process
from gateway.process import Clock, tie_to_parent
from gateway.settings import Settings, inherited_environment, to_environment
from router.model.errors import ErrorCode, PushError
from router.telemetry.metrics import SupervisorMetrics

_READY_DEADLINE_S: Final = 60.0
_KILL_GRACE_S: Final = 3.0
_EXIT_GRACE_S: Final = 2.0
_FAILED_STARTS: Final = 5
"""So many times in a row a process may end before it is ready."""
_DEATHS: Final = 40
_DEATHS_WINDOW_S: Final = 120.0
"""So many times in this window a process may die after it was ready."""
_BACKOFF_FIRST_S: Final = 0.05
_BACKOFF_LAST_S: Final = 5.0
_STEADY_S: Final = 5.0
"""A process that served for so long has earned a quick restart."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("supervisor")


class GivenUpError(PushError):
    """A process died too often. The text names it."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, f"given up: {message}; the log tells why")


class Life:
    """How often a process died, and when it may start again.

    Args:
        name: of the process.
        clock: for the window.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._failed = 0
        self._deaths: deque[float] = deque()
        self._backoff_s = _BACKOFF_FIRST_S

    def died(self, served_s: float | None) -> float:
        """Note a death, and give the seconds to wait before the next start.

        Args:
            served_s: how long it was ready; None where it never was.

        Raises:
            GivenUpError: it died too often.
        """
        now = self._clock.monotonic()
        if served_s is None:
            self._failed += 1
            if self._failed >= _FAILED_STARTS:
                raise GivenUpError(f"{self._name} ended {self._failed} times before it was ready")
        else:
            self._failed = 0
        self._deaths.append(now)
        while now - self._deaths[0] > _DEATHS_WINDOW_S:
            self._deaths.popleft()
        if len(self._deaths) >= _DEATHS:
            raise GivenUpError(
                f"{self._name} died {len(self._deaths)} times in {_DEATHS_WINDOW_S:.0f} s"
            )
        if served_s is not None and served_s >= _STEADY_S:
            self._backoff_s = _BACKOFF_FIRST_S
        wait_s, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, _BACKOFF_LAST_S)
        return wait_s


class Watch(NamedTuple):
    """Who is told of the lives of the processes."""

    clock: Clock
    metrics: SupervisorMetrics
    changed: Callable[[], None]
    """Called when a process id changed."""
    turns: asyncio.Semaphore
    """Held from a start until the process is ready: dozens at once would all be too late."""


class RoleProcess:
    """One child process of a role, started again whenever it dies.

    Args:
        role: `api`, `shard` or `worker`.
        index: makes the name `<role>-<index>`.
        settings: handed down by environment.
        metrics_dir: where its metrics go.
        watch: what is told of its life.
    """

    def __init__(
        self,
        role: str,
        index: int,
        settings: Settings,
        metrics_dir: Path,
        watch: Watch,
    ) -> None:
        self.role = role
        self.name = f"{role}-{index}"
        self.pid = 0
        self.ready = asyncio.Event()
        """Set while the process serves."""
        self._environment = {
            **inherited_environment(),
            **to_environment(settings),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
        }
        self._deadline_s = settings.stop_timeout_s + _KILL_GRACE_S
        self._metrics_dir = metrics_dir
        self._watch = watch
        self._life = Life(self.name, watch.clock)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def keep(self) -> None:
        """Run the process, again and again, until `stop`.

        Raises:
            GivenUpError: it died too often.
        """
        while not self._stopping.is_set():
            served_s = await self._live()
            if self._stopping.is_set():
                return
            wait_s = self._life.died(served_s)
            self._watch.metrics.restarts.labels(self.role).inc()
            _log.warning("process.restart", child=self.name, wait_s=wait_s)
            await asyncio.sleep(wait_s)

    async def _live(self) -> float | None:
        """Run the process once, and give how long it served; None where it never did."""
        async with self._watch.turns:
            if self._stopping.is_set():
                return None
            process, reader = await self._start()
            told = await _is_told_ready(reader)
        since = 0.0
        try:
            if told:
                since = self._watch.clock.monotonic()
                self.ready.set()
                self._watch.changed()
                self._watch.metrics.up.labels(self.role).inc()
            elif not await _ends_within(process, _EXIT_GRACE_S):
                _log.error("process.not_ready", child=self.name)
                self._kill(process)
            code = await process.wait()
        finally:
            if self.ready.is_set():
                self._watch.metrics.up.labels(self.role).dec()
            self.ready.clear()
        if not self._stopping.is_set():
            _log.warning("process.ended", child=self.name, code=code)
        forget_process(self._metrics_dir, process.pid)
        return self._watch.clock.monotonic() - since if since else None

    async def _start(self) -> tuple[asyncio.subprocess.Process, int]:
        """Start the process; gives it, and where it tells that it is ready."""
        reader, ready_fd = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", self.role),
                *("--supervised", f"{ready_fd}:{os.getpid()}:{self.name}"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                env=self._environment,
                pass_fds=(ready_fd,),
                start_new_session=True,  # the terminal's Ctrl-C is for the supervisor alone
                preexec_fn=tie_to_parent(os.getpid()),
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(ready_fd)
        self._process = process
        self.pid = process.pid
        return process, reader

    async def stop(self) -> None:
        """Let the process drain and end; kill it past the deadline."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        if not await _ends_within(process, self._deadline_s):
            _log.error("process.killed", child=self.name)
            self._kill(process)
            await process.wait()

    def kill(self) -> None:
        """End the process at once."""
        self._stopping.set()
        if self._process is not None:
            self._kill(self._process)

    def _kill(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def _ends_within(process: asyncio.subprocess.Process, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        return False
    return True


async def _is_told_ready(reader: int) -> bool:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    pipe = os.fdopen(reader, "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    try:
        async with asyncio.timeout(_READY_DEADLINE_S):
            return (await stream.readline()).endswith(b"\n")
    except TimeoutError:
        return False
    finally:
        transport.close()
