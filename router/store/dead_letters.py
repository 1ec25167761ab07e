"""Dead letters: callbacks that were given up, kept for a while with their history.

Before: `router.callbacks`. After: `gateway.api.resources.dead_letters`.
"""

from collections.abc import Sequence
from typing import cast

import msgspec

from router.model.webhook import DeadLetter, partition_of_webhook
from router.store import keys
from router.store.callbacks import element
from router.store.connection import Store
from router.store.link import fields

_letter = msgspec.msgpack.Decoder(DeadLetter)


class Bounds(msgspec.Struct, frozen=True):
    """How many dead letters an endpoint keeps, and for how long."""

    most: int
    retention_ms: int


class DeadLetters:
    """Keeps the dead letters of endpoints.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self._store = store
        self._function = store.library.function
        self._bounds = bounds

    async def bury(self, letter: DeadLetter, partition: str = "", mark: str = "") -> int | None:
        """Give up the callback at the head of a lane, or events that found no room.

        Args:
            letter: with the id of the callback, or with a new one.
            partition: of the outbox, for events that found no room.
            mark: id of the last of their entries.

        Returns:
            How many older ones gave way; None where it was done before.
        """
        webhook, lane = letter.webhook, letter.lane
        buried, lost = fields(
            await self._store.batch.fcall(
                self._function("callback_bury"),
                (
                    keys.callback_lane(webhook, lane),
                    keys.callbacks_due(partition_of_webhook(webhook)),
                    keys.dead_letters(webhook),
                    keys.letters(webhook),
                ),
                (
                    f"{webhook}:{lane}",
                    letter.id,
                    letter.died_ms,
                    msgspec.msgpack.encode(letter),
                    partition,
                    mark,
                    self._bounds.most,
                    self._bounds.retention_ms,
                ),
            )
        )
        return cast("int", lost) if buried else None

    async def keep(self, letter: DeadLetter) -> int:
        """Keep a dead letter of what has no lane; the same one may be kept again.

        Returns:
            How many older ones gave way.
        """
        lost = await self._store.batch.fcall(
            self._function("letter_bury"),
            (keys.dead_letters(letter.webhook), keys.letters(letter.webhook)),
            (
                letter.id,
                letter.died_ms,
                msgspec.msgpack.encode(letter),
                self._bounds.most,
                self._bounds.retention_ms,
            ),
        )
        return cast("int", lost)

    async def ids(self, webhook: str) -> list[tuple[int, str]]:
        """List (when it died, id), oldest first: at most the bound."""
        reply = await self._store.batch.call(
            "ZRANGE", keys.dead_letters(webhook), 0, -1, "WITHSCORES"
        )
        flat = [cast("bytes", item) for item in fields(reply)]
        return [
            (int(score), name.decode()) for name, score in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def get(self, webhook: str, identifiers: Sequence[str]) -> list[DeadLetter]:
        """Give those of these that are there, in the order given."""
        if not identifiers:
            return []
        reply = await self._store.batch.call("HMGET", keys.letters(webhook), *identifiers)
        return [_letter.decode(value) for value in fields(reply) if isinstance(value, bytes)]

    async def replay(self, letter: DeadLetter, now_ms: int, limit_bytes: int) -> int:
        """Queue a dead letter again, with its id and body.

        Returns:
            1; 0 where it is none any more; -1 where its lane has no room.
        """
        webhook, lane = letter.webhook, letter.lane
        body = b"%b|%d|%b" % (letter.id.encode(), letter.receipts, letter.body)
        reply = await self._store.batch.fcall(
            self._function("callback_replay"),
            (
                keys.callback_lane(webhook, lane),
                keys.callback_queue(webhook, lane),
                keys.callbacks_due(partition_of_webhook(webhook)),
                keys.dead_letters(webhook),
                keys.letters(webhook),
            ),
            (f"{webhook}:{lane}", letter.id, now_ms, limit_bytes, element("x", now_ms, body)),
        )
        return cast("int", reply)

    async def drop(self, webhook: str, identifier: str, died_ms: int | None = None) -> bool:
        """Forget a dead letter; False where there is none, or one that died at another time."""
        dropped = await self._store.batch.fcall(
            self._function("letter_drop"),
            (keys.dead_letters(webhook), keys.letters(webhook)),
            (identifier, "" if died_ms is None else died_ms),
        )
        return bool(dropped)

    async def drop_all(self, webhook: str) -> None:
        """Forget all dead letters of an endpoint that is gone."""
        await self._store.batch.call("UNLINK", keys.dead_letters(webhook), keys.letters(webhook))

    async def trim(self, webhook: str, now_ms: int) -> int:
        """Forget those that are too old, and tell how many."""
        lost = await self._store.batch.fcall(
            self._function("dead_letters_trim"),
            (keys.dead_letters(webhook), keys.letters(webhook)),
            (now_ms, self._bounds.most, self._bounds.retention_ms),
        )
        return cast("int", lost)

    async def extent(self, webhook: str) -> tuple[int, int]:
        """Give their number, and when the oldest died (0 for none)."""
        batch = self._store.batch
        count = batch.call("ZCARD", keys.dead_letters(webhook))
        oldest = batch.call("ZRANGE", keys.dead_letters(webhook), 0, 0, "WITHSCORES")
        number = cast("int", await count)
        first = fields(await oldest)
        return number, int(cast("bytes", first[1])) if first else 0
