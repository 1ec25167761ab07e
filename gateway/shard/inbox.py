"""The inbox of a shard: from the store's stream to the sessions.

Before: `router.routing`, `router.store.inbox`. After: `gateway.shard.registry`.
"""

from collections.abc import Callable
from contextlib import aclosing

from gateway.shard.registry import Registry
from router.store.inbox import Inboxes
from router.telemetry.metrics import Metrics


async def read_inbox(
    inboxes: Inboxes, registry: Registry, metrics: Metrics, now_ms: Callable[[], int]
) -> None:
    """Dispatch hints for ever; the reader opens its connection again as often as need be."""
    reader = inboxes.reader(registry.shard)
    async with aclosing(reader) as entries:
        async for entry_ms, hints in entries:
            metrics.inbox_lag.observe(max(0, now_ms() - entry_ms) / 1000)
            registry.dispatch(hints)
