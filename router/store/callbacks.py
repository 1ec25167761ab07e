"""Lanes: what waits for an endpoint, in order, and the callback at the head of each.

Before: `router.callbacks.feed`, which fills them. After: `router.callbacks.delivery`, which empties
them. Everything of an endpoint stands under the tag of one partition, whose owner sends.

What waits is a list of elements: a letter for its kind, 13 digits for when it was queued, and then
`r` the JSON of one receipt, `c` a whole body, `x` a callback with its id (a replay).
"""

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from router.model.ids import Partition
from router.model.webhook import LANES, Attempt, Callback, lane_of, partition_of_webhook
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields

LINGER_MS: Final = 200
"""How long a receipt waits for others, so that a callback carries many."""
FULL: Final = "full"
"""What `push` answers where a lane has no room."""
_history = msgspec.json.Decoder(tuple[Attempt, ...])
_NO_ROOM: Final = -1


class Source(msgspec.Struct, frozen=True, gc=False):
    """A stretch of an outbox: its partition, ids of the first and the last entry."""

    partition: Partition
    first: str
    last: str


def element(kind: str, now_ms: int, body: bytes) -> bytes:
    """Write one element of a lane."""
    return b"%b%013d%b" % (kind.encode(), now_ms, body)


class Lanes:
    """Fills and empties lanes.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        self._take = self._function("callback_take")
        self._done = self._function("callback_done")

    async def push(
        self,
        webhook: str,
        source: Source,
        now_ms: int,
        linger_ms: int,
        limit_bytes: int,
        elements: Sequence[bytes],
    ) -> str:
        """Put elements at the end of a lane.

        Args:
            webhook: whose lane; its number follows from the partition.
            source: where the events come from.
            now_ms: epoch milliseconds.
            linger_ms: how long they may wait for more.
            limit_bytes: what a lane holds.
            elements: at most a window of events.

        Returns:
            Empty where they were taken; `FULL`; otherwise the id of the last entry that the lane
            had taken before, and nothing was taken now.
        """
        lane = lane_of(source.partition)
        reply = fields(
            await self._store.batch.fcall(
                self._function("callback_push"),
                (
                    keys.callback_lane(webhook, lane),
                    keys.callback_queue(webhook, lane),
                    keys.callbacks_due(partition_of_webhook(webhook)),
                ),
                (
                    f"{webhook}:{lane}",
                    source.partition,
                    source.first,
                    source.last,
                    now_ms,
                    linger_ms,
                    limit_bytes,
                    *elements,
                ),
            )
        )
        if reply[0] == _NO_ROOM:
            return FULL
        return "" if reply[0] else cast("bytes", reply[1]).decode()

    async def due(
        self, partition: Partition, worker: str, now_ms: int, limit: int
    ) -> list[tuple[str, int]]:
        """List (webhook, lane) to look at; nothing for a worker that does not own the partition."""
        names = await self._store.batch.fcall(
            self._function("timers_due"),
            (keys.partition_lease(partition), keys.callbacks_due(partition)),
            (worker, now_ms, limit),
        )
        found = []
        for name in fields(names):
            webhook, _, lane = cast("bytes", name).decode().rpartition(":")
            found.append((webhook, int(lane)))
        return found

    async def take(
        self,
        webhook: str,
        lane: int,
        new_id: str,
        now_ms: int,
        hold_ms: int,
        around: tuple[bytes, bytes],
    ) -> Callback | None:
        """Give the callback at the head of a lane; nobody else is given it for `hold_ms`.

        Args:
            webhook: whose lane.
            lane: its number.
            new_id: for a callback that is made now.
            now_ms: epoch milliseconds.
            hold_ms: the longest that its request takes.
            around: what stands before and after the receipts in a body.
        """
        reply = await self._store.batch.fcall(
            self._take,
            (
                keys.callback_lane(webhook, lane),
                keys.callback_queue(webhook, lane),
                keys.callbacks_due(partition_of_webhook(webhook)),
            ),
            (f"{webhook}:{lane}", new_id, now_ms, hold_ms, LINGER_MS, around[0], around[1]),
        )
        return None if reply is None else _callback(fields(reply))

    async def done(self, webhook: str, lane: int, callback: str, now_ms: int) -> bool:
        """Take a delivered callback away; True where its endpoint was failing until now."""
        reply = await self._store.batch.fcall(
            self._done,
            (
                keys.callback_lane(webhook, lane),
                keys.callbacks_due(partition_of_webhook(webhook)),
                keys.callback_health(webhook),
            ),
            (f"{webhook}:{lane}", callback, now_ms),
        )
        return cast("int", reply) > 1

    async def failed(
        self,
        webhook: str,
        lane: int,
        callback: str,
        again_ms: int,
        history: Sequence[Attempt],
    ) -> None:
        """Note a failed attempt, the last one of `history`; the next is due at `again_ms`."""
        last = history[-1]
        await self._store.batch.fcall(
            self._function("callback_failed"),
            (
                keys.callback_lane(webhook, lane),
                keys.callbacks_due(partition_of_webhook(webhook)),
                keys.callback_health(webhook),
            ),
            (
                f"{webhook}:{lane}",
                callback,
                last.time_ms,
                again_ms,
                msgspec.json.encode(history),
                last.error,
            ),
        )

    async def put_off(self, webhook: str, lane: int, until_ms: int) -> None:
        """Look at a lane later."""
        due = keys.callbacks_due(partition_of_webhook(webhook))
        await self._store.batch.call("ZADD", due, "XX", until_ms, f"{webhook}:{lane}")

    async def wake(self, webhook: str, now_ms: int) -> None:
        """Look at all lanes that hold anything at once: the endpoint answers again."""
        due = keys.callbacks_due(partition_of_webhook(webhook))
        pairs = [part for lane in range(LANES) for part in (now_ms, f"{webhook}:{lane}")]
        await self._store.batch.call("ZADD", due, "XX", "LT", *pairs)

    async def waiting(self, webhook: str) -> int:
        """Count what waits to become callbacks, over all lanes."""
        batch = self._store.batch
        asked = [batch.call("LLEN", keys.callback_queue(webhook, lane)) for lane in range(LANES)]
        return sum([cast("int", await answer) for answer in asked])


def _callback(reply: list[Reply]) -> Callback:
    identifier, body, receipts, created, history = reply
    return Callback(
        id=cast("bytes", identifier).decode(),
        body=cast("bytes", body),
        receipts=int(cast("bytes", receipts)),
        created_ms=int(cast("bytes", created)),
        history=_history.decode(history) if isinstance(history, bytes) else (),
    )
