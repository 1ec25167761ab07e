"""From the buffer to the sink: makes files, and moves the cursors once a file is kept.

Before: `router.export.feed`. After: a sink. All work on files is done in a thread, five
hundred entries at a time, so that the loop with its timers and callbacks never waits for it.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, ParamSpec, TypeVar

import msgspec
import structlog

from router.export import records
from router.export.encoder import Encoder, Writing
from router.export.feed import CHUNK, Feed, Window
from router.export.records import Record
from router.export.sink import File, Sink, SinkError
from router.model.errors import PushError
from router.model.ids import Partition
from router.policy.retry import Backoff, Uniform
from router.store.exports import Exports, Failure, LastFile, Mark
from router.telemetry.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")

UNREADABLE: Final = "unreadable"
_RETRY: Final = Backoff(base_s=0.5, cap_s=60.0)
_STORE_RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)
_STOP_S: Final = 5.0
"""What a stopping worker takes for its last file."""

_log = structlog.stdlib.get_logger(__name__)


class Rotation(msgspec.Struct, frozen=True):
    """When a file is finished, whichever comes first."""

    seconds: float
    """After its first event was read."""
    bytes: int
    """Before compression."""


class _Draft:
    """A file that is being written."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.marks: dict[Partition, Mark] = {}
        self.entries = self.events = self.unreadable = 0

    def add(self, windows: Sequence[Window]) -> None:
        """Write entries; runs in the thread."""
        found: list[Record] = []
        for window in windows:
            for entry, record in window.entries:
                try:
                    found += records.read(window.partition, entry, record)
                except ValueError:
                    self.unreadable += 1
            self.marks[window.partition] = window.mark
            self.entries += len(window.entries)
        self.encoder.add(found)
        self.events += len(found)


class Exporter:
    """Writes what the feed has read, for as long as the worker runs.

    Args:
        worker: name of this worker, fresh at each start: files of two workers never share a name.
        feed: where entries wait.
        exports: whose cursors move once a file is kept.
        sink: takes files.
        writing: how files are written.
        rotation: when they are finished.
        metrics: of the export.
        now_ms: the wall clock, epoch milliseconds.
        now_s: a clock that never goes back.
        uniform: draws the jitter.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the top of the stage: it holds its parts
        self,
        worker: str,
        feed: Feed,
        exports: Exports,
        sink: Sink,
        writing: Writing,
        rotation: Rotation,
        metrics: Metrics,
        now_ms: Callable[[], int],
        now_s: Callable[[], float],
        uniform: Uniform,
    ) -> None:
        self._worker = worker
        self._feed = feed
        self._exports = exports
        self._sink = sink
        self._writing = writing
        self._rotation = rotation
        self._metrics = metrics
        self._now_ms = now_ms
        self._now_s = now_s
        self._uniform = uniform
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="export-encode")
        self._draft: _Draft | None = None
        self._number = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Export until told to stop; what was read by then has a few seconds to become a file."""
        try:
            async with self._sink, asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._write(stopping))
                await stopping.wait()
                self._feed.filled.set()
                await asyncio.wait({writing}, timeout=_STOP_S)
                writing.cancel()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _write(self, stopping: asyncio.Event) -> None:
        failures, goes_on = 0, True
        while goes_on:
            try:
                goes_on = await self._step(stopping)
                failures = 0
            except Exception:  # noqa: BLE001 - a defect must end nothing; the events come again
                failures += 1
                self._metrics.export_failures.inc()
                _log.exception("export.broken")
                self._begin_anew()
                await _within(stopping, _RETRY.ceiling_s(failures))

    def _begin_anew(self) -> None:
        self._draft = None
        self._feed.forget_all()
        self._metrics.export_waiting.set(0)

    async def _step(self, stopping: asyncio.Event) -> bool:
        """Wait for entries or for the time of the file, write, and finish the file when it is due.

        Few entries wait in the buffer until then: the thread is not woken for each.

        Returns:
            Whether to go on: not when the worker stops. Nothing may follow a file that was given up
            then, or the cursors would be moved past it.
        """
        since_s = self._feed.since_s
        due_s = since_s + self._rotation.seconds if since_s else None
        if self._feed.entries < CHUNK:
            await _within(self._feed.filled, None if due_s is None else due_s - self._now_s())
        self._feed.filled.clear()
        is_last = stopping.is_set()
        is_due = is_last or (due_s is not None and self._now_s() >= due_s)
        if is_due or self._feed.entries >= CHUNK:
            await self._encode()
        if is_due or self._is_full():
            return await self._finish(stopping) and not is_last
        return True

    def _is_full(self) -> bool:
        draft = self._draft
        return draft is not None and draft.encoder.size >= self._rotation.bytes

    async def _encode(self) -> None:
        """Write what is in the buffer, until it is empty or the file is full."""
        while not self._is_full() and (windows := self._feed.take(CHUNK)):
            if self._draft is None:
                self._draft = _Draft(await self._in_thread(self._writing.encoder))
            await self._in_thread(self._draft.add, windows)

    async def _finish(self, stopping: asyncio.Event) -> bool:
        """Finish the file, give it to the sink, and move the cursors; whether that was done."""
        draft, self._draft = self._draft, None
        if draft is None:
            return True
        if draft.unreadable:
            self._metrics.export_lost.labels(UNREADABLE).inc(draft.unreadable)
            _log.error("export.unreadable", entries=draft.unreadable)
        file = None
        if draft.events:
            data = await self._in_thread(draft.encoder.finish)
            file = File(self._name(), data, self._writing.media, self._writing.coding)
            if not await self._put(file, stopping):
                return False
        await self._move(draft.marks)
        self._metrics.export_waiting.dec(draft.entries)
        self._feed.settle()
        if file is not None:
            await self._tell_file(file, draft.events)
        return True

    async def _put(self, file: File, stopping: asyncio.Event) -> bool:
        """Give a file to the sink until it is kept; False where the worker stops before."""
        failures = since_ms = 0
        while True:
            try:
                await self._sink.put(file)
            except SinkError as error:
                failures += 1
                self._metrics.export_failures.inc()
                if failures == 1:
                    since_ms = self._now_ms()
                    _log.warning("export.failed", reason=str(error))
                with contextlib.suppress(PushError):  # only told by `pushwire export status`
                    await self._exports.note_failure(Failure(since_ms, str(error), self._worker))
                wait_s = max(error.retry_after_s, _RETRY.delay_s(failures, self._uniform))
                await _within(stopping, wait_s)
                if stopping.is_set():
                    return False
            else:
                if failures:
                    _log.info("export.recovered", failures=failures)
                return True

    async def _move(self, marks: Mapping[Partition, Mark]) -> None:
        """Move the cursors; while the store is away there is nothing else to do."""
        failures = 0
        while True:
            try:
                for partition in await self._exports.move(marks):
                    self._feed.forget(partition)
            except PushError as error:
                failures += 1
                if failures == 1:
                    _log.warning("export.waits", reason=error.message)
                await asyncio.sleep(_STORE_RETRY.ceiling_s(failures))
            else:
                return

    def _name(self) -> str:
        """Name a file: names sort by the time at which files were finished."""
        self._number += 1
        time = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        stamp = f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03d}Z"
        name = f"{stamp}-{self._worker}-{self._number:06d}{self._writing.suffix}"
        return f"date={time:%Y-%m-%d}/{name}"

    async def _tell_file(self, file: File, events: int) -> None:
        size = len(file.data)
        self._metrics.export_files.inc()
        self._metrics.export_bytes.inc(size)
        self._metrics.export_events.inc(events)
        with contextlib.suppress(PushError):  # only told by `pushwire export status`
            last = LastFile(file.name, self._now_ms(), events, size, self._worker)
            await self._exports.note_file(last)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, functools.partial(work, *args, **kwargs))


async def _within(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, or so long at the most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
