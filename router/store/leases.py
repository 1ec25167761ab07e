"""Leases: which shards and workers live, and who owns a partition."""

from typing import Final, cast

from router.model.ids import Partition, ShardId
from router.model.lane import Lane
from router.store import keys
from router.store.connection import Store
from router.store.inbox import Inboxes
from router.store.link import fields

_AHEAD_LEASES: Final = 10
"""A worker's lease that ends later than so many from now was set by a clock that was wrong."""
_INBOX_LEASES: Final = 10
"""An inbox outlives its shard's last lease by so many of them, then it goes by itself."""


class Leases:
    """Holds and reads leases.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inboxes = Inboxes(store)

    async def shard_renew(self, shard: ShardId, value: bytes, ttl_ms: int) -> None:
        """Say that a shard lives, for `ttl_ms` from now; `value` is what it tells of itself."""
        batch, function = self._store.batch, self._store.library.function
        lease = batch.fcall(function("lease_renew"), (keys.shard_lease(shard),), (value, ttl_ms))
        listed = batch.fcall(function("shard_list"), (keys.SHARDS,), (shard,))
        kept = [
            batch.call("PEXPIRE", keys.shard_inbox(shard, lane), ttl_ms * _INBOX_LEASES)
            for lane in Lane
        ]
        await lease
        await listed
        if not all([await one for one in kept]):
            await self._inboxes.open(shard)

    async def shard_drop(self, shard: ShardId) -> None:
        """Say that a shard is going."""
        batch = self._store.batch
        lease = batch.call("DEL", keys.shard_lease(shard))
        listed = batch.call("SREM", keys.SHARDS, shard)
        await lease
        await listed

    async def shards(self) -> dict[ShardId, bytes]:
        """Give the live shards with what they tell of themselves; forgets the dead."""
        batch = self._store.batch
        names = [
            ShardId(cast("bytes", name).decode())
            for name in fields(await batch.call("SMEMBERS", keys.SHARDS))
        ]
        asked = [(name, batch.call("GET", keys.shard_lease(name))) for name in names]
        live: dict[ShardId, bytes] = {}
        for name, answer in asked:
            value = await answer
            if isinstance(value, bytes):
                live[name] = value
            else:
                await batch.call("SREM", keys.SHARDS, name)
        return live

    async def worker_renew(self, worker: str, now_ms: int, ttl_ms: int) -> None:
        """Say that a worker lives, for `ttl_ms` from now."""
        await self._store.batch.fcall(
            self._store.library.function("worker_list"), (keys.WORKERS,), (worker, now_ms + ttl_ms)
        )

    async def worker_drop(self, worker: str) -> None:
        """Say that a worker is going."""
        await self._store.batch.call("ZREM", keys.WORKERS, worker)

    async def workers(self, now_ms: int, ttl_ms: int) -> list[str]:
        """Give the live workers, sorted; forgets the dead.

        Those that seem to live for much longer than `ttl_ms` died before a clock was set back.
        """
        batch = self._store.batch
        ahead_ms = now_ms + ttl_ms * _AHEAD_LEASES
        dead = batch.call("ZREMRANGEBYSCORE", keys.WORKERS, "-inf", now_ms)
        ghosts = batch.call("ZREMRANGEBYSCORE", keys.WORKERS, f"({ahead_ms}", "+inf")
        live = batch.call("ZRANGE", keys.WORKERS, 0, -1)
        await dead
        await ghosts
        return sorted(cast("bytes", name).decode() for name in fields(await live))

    async def partition_acquire(self, partition: Partition, worker: str, ttl_ms: int) -> bool:
        """Take or renew a partition; False while another worker holds it."""
        return bool(
            await self._store.batch.fcall(
                self._store.library.function("lease_acquire"),
                (keys.partition_lease(partition),),
                (worker, ttl_ms),
            )
        )

    async def partition_release(self, partition: Partition, worker: str) -> None:
        """Give up a partition; nothing happens where another worker holds it."""
        await self._store.batch.fcall(
            self._store.library.function("lease_release"),
            (keys.partition_lease(partition),),
            (worker,),
        )
