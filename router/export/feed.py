"""From the outbox into a bounded buffer: all of the export that a partition's loop waits for.

Before: the store's functions, which write events. After: `router.export.exporter`, which empties
the buffer. While it is full nothing is read: events wait in the outbox, up to the bound of that.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from router.model.ids import Partition
from router.store.exports import Exports, Mark, place
from router.telemetry.metrics import Metrics

WINDOW: Final = 500
"""Entries in one read."""
BUFFER_BYTES: Final = 16 * 1024 * 1024
CHUNK: Final = 500
"""Entries that are worth a call of the writer's thread."""
ENTRY_BYTES: Final = 256
"""What an entry takes besides its record: its id, and Python's objects."""
PACE_S: Final = 0.5
"""Between two reads of a partition that is not behind: fewer reads with more in each."""
TRIMMED: Final = "trimmed"

_log = structlog.stdlib.get_logger(__name__)


class Window(msgspec.Struct, frozen=True):
    """Entries of one partition, in order."""

    partition: Partition
    entries: list[tuple[str, bytes]]
    mark: Mark
    """The place behind them."""
    size: int
    """Bytes, about."""
    read_s: float
    """When it was read, by the clock that never goes back."""

    @property
    def oldest_ms(self) -> int:
        """When the first of them was written."""
        return place(self.entries[0][0])[0]


class _Reader(msgspec.Struct):
    mark: Mark
    """The place behind what was read."""
    due_s: float = 0.0
    is_behind: bool = True
    """Whether so much waits, or may, that the outbox could have been cut."""


class Feed:
    """Reads outboxes for the export; one reader of `router.partitions`.

    Args:
        exports: where events wait.
        metrics: of the export.
        now_ms: the wall clock, epoch milliseconds.
        now_s: a clock that never goes back.
        buffer_bytes: what waits for the writer at the most, about; each partition may put one
            window more on top.
    """

    def __init__(
        self,
        exports: Exports,
        metrics: Metrics,
        now_ms: Callable[[], int],
        now_s: Callable[[], float],
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self._exports = exports
        self._metrics = metrics
        self._now_ms = now_ms
        self._now_s = now_s
        self._buffer_bytes = buffer_bytes
        self._readers: dict[Partition, _Reader] = {}
        self._buffer: deque[Window] = deque()
        self._oldest_ms = 0
        self._is_paused = False
        self.size = self.entries = 0
        """Of the buffer: bytes, about, and entries."""
        self.since_s = 0.0
        """When the first of what is in no file yet was read; 0 where there is nothing."""
        self.filled = asyncio.Event()
        """Set when the first entry of a file has come, and when there are enough to write."""

    async def take_over(self, partition: Partition) -> None:
        """Prepare to read a partition, behind what is in files.

        Raises:
            StoreUnavailableError: the store is away.
        """
        self._readers[partition] = _Reader(await self._exports.open(partition))

    async def run_once(self, partition: Partition) -> bool:
        """Read one window into the buffer, if there is room and it is time.

        Returns:
            Always False: who is behind catches up by a window in each round, at the pace of the
            partition, and does not make the loop turn for the export alone.

        Raises:
            StoreUnavailableError: the store is away.
        """
        self._show_lag()
        reader = self._readers.get(partition)
        if reader is None:
            await self.take_over(partition)
            return False
        now_s = self._now_s()
        if now_s < reader.due_s:
            return False
        if self.size >= self._buffer_bytes:
            reader.is_behind = True
            self._pause()
            return False
        self._is_paused = False
        lost = 0
        if reader.is_behind:
            read, removed = await self._exports.read_behind(partition, reader.mark, WINDOW)
            lost = max(0, removed - reader.mark.number)
        else:
            read = await self._exports.read(partition, reader.mark, WINDOW)
        if self._readers.get(partition) is not reader:  # given up, or taken over anew meanwhile
            return False
        reader.is_behind = len(read) >= WINDOW
        reader.due_s = 0.0 if reader.is_behind else now_s + PACE_S
        if lost:
            self._tell_lost(partition, lost)
        reader.mark = Mark(
            read[-1][0] if read else reader.mark.entry, reader.mark.number + lost + len(read)
        )
        if read:
            self._append(partition, read, reader.mark)
        return False

    def take(self, entries: int) -> list[Window]:
        """Take windows out of the buffer, until they hold so many entries."""
        taken: list[Window] = []
        while self._buffer and entries > 0:
            window = self._buffer.popleft()
            self.size -= window.size
            self.entries -= len(window.entries)
            entries -= len(window.entries)
            taken.append(window)
        return taken

    def settle(self) -> None:
        """Note that all that was taken is in files."""
        self._oldest_ms = min((window.oldest_ms for window in self._buffer), default=0)
        self.since_s = self._buffer[0].read_s if self._buffer else 0.0
        self._show_lag()

    def forget(self, partition: Partition) -> None:
        """Begin anew with a partition whose group is gone."""
        self._readers.pop(partition, None)

    def forget_all(self) -> None:
        """Begin anew everywhere, behind what is in files."""
        self._readers.clear()
        self._buffer.clear()
        self.size = self.entries = 0
        self.settle()

    def _append(self, partition: Partition, read: list[tuple[str, bytes]], mark: Mark) -> None:
        size = sum(len(record) for _, record in read) + ENTRY_BYTES * len(read)
        window = Window(partition, read, mark, size, self._now_s())
        self._buffer.append(window)
        self.size += size
        self.entries += len(read)
        is_first, self.since_s = not self.since_s, self.since_s or window.read_s
        self._oldest_ms = min(self._oldest_ms or window.oldest_ms, window.oldest_ms)
        self._metrics.export_waiting.inc(len(read))
        if is_first or self.entries >= CHUNK:
            self.filled.set()

    def _tell_lost(self, partition: Partition, lost: int) -> None:
        self._metrics.export_lost.labels(TRIMMED).inc(lost)
        _log.error("export.lost", partition=partition, entries=lost)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            _log.warning("export.paused", reason="the sink is too slow; events wait in the outbox")

    def _show_lag(self) -> None:
        behind_ms = self._now_ms() - self._oldest_ms if self._oldest_ms else 0
        self._metrics.export_lag.set(max(0, behind_ms) / 1000)


class Closed:
    """Reads nothing, and ends what an export that is off now has left behind.

    Args:
        exports: where its groups are.
    """

    def __init__(self, exports: Exports) -> None:
        self._exports = exports

    async def take_over(self, partition: Partition) -> None:
        """End the group: it would keep events for nobody.

        Raises:
            StoreUnavailableError: the store is away.
        """
        await self._exports.close(partition)

    async def run_once(self, _partition: Partition) -> bool:
        """Do nothing; there is never more."""
        return False
