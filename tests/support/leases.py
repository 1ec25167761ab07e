"""Take a partition for a test, whoever had it: an earlier test may have left its lease behind."""

from router.model.ids import Partition
from router.store import keys
from router.store.connection import Store


async def own(store: Store, partition: Partition, worker: str) -> None:
    """Make a worker the owner of a partition for a minute."""
    await store.batch.call("SET", keys.partition_lease(partition), worker, "PX", 60_000)
