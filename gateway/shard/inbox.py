"""The inbox of a shard: from the store's streams to the sessions.

Before: `router.routing`, `router.store.inbox`. After: `gateway.shard.registry`. Each lane has a
reader of its own, and takes its turns: a critical hint is read and dispatched while those of a
fan-out wait.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from gateway.shard.registry import Registry
from gateway.shard.turns import SLICE, Turns
from router.model.lane import Lane
from router.store.inbox import Inboxes
from router.telemetry.metrics import Metrics


async def read_inbox(
    inboxes: Inboxes,
    registry: Registry,
    metrics: Metrics,
    now_ms: Callable[[], int],
    turns: Turns | None = None,
) -> None:
    """Dispatch hints for ever; the readers open their connections again as often as need be."""
    turns = turns or Turns()
    async with asyncio.TaskGroup() as tasks:
        for lane in Lane:
            reading = _read_lane(inboxes, registry, metrics, now_ms, turns, lane)
            tasks.create_task(reading, name=f"inbox-{lane.label}")


async def _read_lane(
    inboxes: Inboxes,
    registry: Registry,
    metrics: Metrics,
    now_ms: Callable[[], int],
    turns: Turns,
    lane: Lane,
) -> None:
    """Dispatch the hints of one lane, a slice a turn.

    While nobody else waits for a turn a hint goes straight on.
    """
    granted, spent = 0, 0
    lag = metrics.inbox_lag.labels(lane.label)
    reader = inboxes.reader(registry.shard, lane)
    async with aclosing(reader) as entries:
        async for entry_ms, hints in entries:
            if granted <= 0 and (spent >= SLICE or turns.contested(lane)):
                await turns.take(lane)
                granted, spent = SLICE, 0
            lag.observe(max(0, now_ms() - entry_ms) / 1000)
            registry.dispatch(hints)
            granted -= len(hints)
            spent += len(hints)
