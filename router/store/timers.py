"""Timers: what a partition has to do, and when."""

from typing import Final, cast

from router.model.ids import Partition
from router.store import keys
from router.store.connection import Store
from router.store.link import fields

REDELIVER: Final = "redeliver"
EXPIRE: Final = "expire"
SEND: Final = "send"
LAPSE: Final = "lapse"
TOPICS: Final = "topics"
ISSUE: Final = "issue"
SPREAD: Final = "spread"
BIND: Final = "bind"
KEEP: Final = "keep"
STALE: Final = "stale"
BRIDGE: Final = "bridge"
WALK: Final = "walk"
REACH: Final = "reach"


class Timers:
    """Reads due timers. A timer stands until its transition or `done` removes it.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def due(
        self, partition: Partition, worker: str, now_ms: int, limit: int
    ) -> list[tuple[str, str]]:
        """List (kind, subject) of due timers, the most overdue first.

        Nothing is due for a worker that does not own the partition.
        """
        names = await self._store.batch.fcall(
            self._store.library.function("timers_due"),
            (keys.partition_lease(partition), keys.timers(partition)),
            (worker, now_ms, limit),
        )
        found = []
        for name in fields(names):
            kind, _, subject = cast("bytes", name).decode().partition(":")
            found.append((kind, subject))
        return found

    async def put_off(self, partition: Partition, kind: str, subject: str, until_ms: int) -> None:
        """Make a timer due at `until_ms`, unless it is set to a later time or gone."""
        await self._store.batch.fcall(
            self._store.library.function("timer_put_off"),
            (keys.timers(partition),),
            (f"{kind}:{subject}", until_ms),
        )

    async def done(self, partition: Partition, kind: str, subject: str, due_ms: int) -> None:
        """Remove a timer, unless it was set anew to a time after `due_ms`."""
        await self._store.batch.fcall(
            self._store.library.function("timer_done"),
            (keys.timers(partition),),
            (f"{kind}:{subject}", due_ms),
        )
