"""What became of pushes, on its way to the store: many in one call, by partition.

Nothing is lost while the store is away: a push keeps its place until its result is stored.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

import structlog

from router.model.errors import PushError
from router.model.ids import Partition
from router.policy.limits import WINDOW
from router.policy.retry import Backoff
from router.store.bridge_jobs import Bridged, BridgeJobs, Failed, Later

LINGER_S: Final = 0.01
_RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)

Result = Bridged | Later | Failed

_log = structlog.stdlib.get_logger(__name__)


class Results:
    """Collects results and stores them.

    Args:
        jobs: where they are stored.
        now_ms: the clock, epoch milliseconds.
        stored: told of each push whose result is stored.
    """

    def __init__(
        self,
        jobs: BridgeJobs,
        now_ms: Callable[[], int],
        stored: Callable[[Sequence[Result]], None],
    ) -> None:
        self._jobs = jobs
        self._now_ms = now_ms
        self._stored = stored
        self._waiting: dict[Partition, list[Result]] = {}
        self._unstored: list[_Batch] = []
        self._more = asyncio.Event()
        self._ended = False

    def note(self, partition: Partition, result: Result) -> None:
        """Have a result stored soon."""
        self._waiting.setdefault(partition, []).append(result)
        self._more.set()

    def end(self) -> None:
        """Let `run` end once everything is stored."""
        self._ended = True
        self._more.set()

    async def run(self) -> None:
        """Store results until the end."""
        failures, stored = 0, True
        while not (self._ended and stored and not self._waiting):
            await self._more.wait()
            await asyncio.sleep(_RETRY.ceiling_s(failures) if failures else LINGER_S)
            stored = await self._flush()
            failures = 0 if stored else failures + 1
            if failures == 1:
                _log.warning("bridge.results_wait")

    async def _flush(self) -> bool:
        """Store what there is; False where some of it has to wait."""
        self._more.clear()
        waiting, self._waiting = self._waiting, {}
        batches, self._unstored = [*self._unstored, *_batches(waiting, self._now_ms())], []
        async with asyncio.TaskGroup() as tasks:
            for batch in batches:
                tasks.create_task(self._store(batch))
        if self._unstored:
            self._more.set()
        return not self._unstored

    async def _store(self, batch: "_Batch") -> None:
        try:
            await self._said(batch)
        except PushError:
            # It may be repeated as it is, and as a whole.
            self._unstored.append(batch)
        else:
            self._stored(batch.results)

    async def _said(self, batch: "_Batch") -> None:
        jobs, partition, results = self._jobs, batch.partition, batch.results
        if batch.kind is Bridged:
            await jobs.bridged(partition, cast("list[Bridged]", results))
        elif batch.kind is Later:
            await jobs.later(partition, cast("list[Later]", results), batch.now_ms)
        else:
            await jobs.failed(partition, cast("list[Failed]", results))


class _Batch(NamedTuple):
    """Results of a partition that one call stores, so that none is counted twice."""

    partition: Partition
    kind: type[Result]
    now_ms: int
    results: list[Result]


def _batches(waiting: Mapping[Partition, Sequence[Result]], now_ms: int) -> Iterator[_Batch]:
    for partition, results in waiting.items():
        for kind in (Bridged, Later, Failed):
            same = [each for each in results if isinstance(each, kind)]
            for start in range(0, len(same), WINDOW):
                yield _Batch(partition, kind, now_ms, same[start : start + WINDOW])
