"""Events on their way out of the outbox, each at least once.

Before: the store's functions, which write an event in the same step as the change that it tells of.
After: a sink. The cursor moves once the sink took an event: a worker that dies before loses none.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

from router.model.ids import Partition
from router.model.receipt import Event, Receipt
from router.store.outbox import Outbox
from router.telemetry.bulk import observe_all
from router.telemetry.metrics import Metrics

GROUP: Final = "receipts"
WINDOW: Final = 500
"""Entries in one read."""


class ReceiptSink(Protocol):
    """Somebody who wants every event."""

    async def take(self, receipts: Sequence[Receipt]) -> None:
        """Deal with events of one partition, in order; some come again after a failure.

        Raises:
            Exception: nothing was dealt with; the same events come again.
        """


class MetricsSink:
    """Counts events, and how long acks took.

    Args:
        metrics: where to count.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def take(self, receipts: Sequence[Receipt]) -> None:
        """Count them; repeats count again."""
        for event, count in Counter(receipt.event for receipt in receipts).items():
            self._metrics.receipts.labels(event.value).inc(count)
        observe_all(
            self._metrics.ack_latency,
            [
                max(0, receipt.time_ms - receipt.accepted_ms) / 1000
                for receipt in receipts
                if receipt.event is Event.DELIVERED and receipt.accepted_ms
            ],
        )


class Receipts:
    """Hands the events of a partition to one sink.

    Args:
        outbox: where events wait.
        sink: who takes them.
        group: whose cursor; each kind of sink has its own.
    """

    def __init__(self, outbox: Outbox, sink: ReceiptSink, group: str = GROUP) -> None:
        self._outbox = outbox
        self._sink = sink
        self._group = group

    async def take_over(self, partition: Partition) -> None:
        """Prepare to read a partition, behind what an earlier owner has dealt with.

        Raises:
            StoreUnavailableError: the store is away.
        """
        await self._outbox.take_over(partition, self._group)

    async def run_once(self, partition: Partition) -> bool:
        """Hand one window of events to the sink.

        Returns:
            Whether the window was full, so that more may wait.

        Raises:
            StoreUnavailableError: the store is away.
            Exception: what the sink raised.
        """
        read = await self._outbox.read(partition, self._group, WINDOW)
        if not read:
            return False
        await self._sink.take([receipt for _, receipt in read])
        await self._outbox.advance(partition, self._group, read[-1][0])
        return len(read) >= WINDOW  # an entry holds an event or two
