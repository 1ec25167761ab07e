"""Inboxes: the streams of hints to each shard, one for each lane.

Each lane is read by itself, so that what waits in one does not hold up another.

Before: `router.routing`. After: `gateway.shard.inbox`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final, cast

import msgspec
import structlog

from router.model.hint import AnyHint, decode_hints, encode_hints
from router.model.ids import ShardId
from router.model.lane import Lane
from router.store import keys
from router.store.connection import Store
from router.store.link import Link, LinkError, Reply, fields

_MAX_ENTRIES: Final = 20_000
"""Entries that a lane holds; older ones are lost, and timers deliver again."""
_READ_ENTRIES: Final = 500
_READ_BYTES: Final = 1_048_576
"""What a read is meant to bring at the most, going by the one before."""
_BLOCK_MS: Final = 5_000
_PATIENCE_S: Final = 5.0
"""Seconds beyond the block time until a silent connection counts as dead."""
_KEEP_MS: Final = 60_000
"""An inbox whose shard never renews its lease goes after this."""


class Inboxes:
    """Appends to inboxes and reads them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = structlog.get_logger("inbox")

    async def append(
        self, shard: ShardId, hints: Sequence[AnyHint], lane: Lane = Lane.NORMAL
    ) -> bool:
        """Append one entry; False where the shard has no inbox (any more): the hints are lost.

        Raises:
            StoreUnavailableError: the store did not answer in time.
        """
        reply = await self._store.batch.call(
            "XADD",
            keys.shard_inbox(shard, lane),
            "NOMKSTREAM",
            "MAXLEN",
            "~",
            _MAX_ENTRIES,
            "*",
            "h",
            encode_hints(hints),
            urgent=lane.urgent,
        )
        return reply is not None

    async def length(self, shard: ShardId, lane: Lane) -> int:
        """Give how many entries of a lane are not read, or were a moment ago.

        Raises:
            StoreUnavailableError: the store did not answer in time.
        """
        inbox = keys.shard_inbox(shard, lane)
        return cast("int", await self._store.batch.call("XLEN", inbox, urgent=lane.urgent))

    async def open(self, shard: ShardId) -> None:
        """Create the inbox of a shard that starts; its leases keep it from then on."""
        batch, nothing = self._store.batch, encode_hints(())
        calls = []
        for inbox in (keys.shard_inbox(shard, lane) for lane in Lane):
            calls.append(batch.call("XADD", inbox, "MAXLEN", "~", _MAX_ENTRIES, "*", "h", nothing))
            calls.append(batch.call("PEXPIRE", inbox, _KEEP_MS))
        for call in calls:
            await call

    async def close(self, shard: ShardId) -> None:
        """Delete the inbox of a shard that stops."""
        batch = self._store.batch
        for call in [batch.call("UNLINK", keys.shard_inbox(shard, lane)) for lane in Lane]:
            await call

    async def reader(
        self, shard: ShardId, lane: Lane = Lane.NORMAL
    ) -> AsyncGenerator[tuple[int, list[AnyHint]], None]:
        """Yield (time of the entry in epoch milliseconds, its hints) of one lane, for ever.

        Reads on a connection of its own, which it opens again as often as need be; what was read is
        trimmed.
        """
        inbox, last, most, failures = keys.shard_inbox(shard, lane), b"0-0", _READ_ENTRIES, 0
        while True:
            link: Link | None = None
            try:
                link = await self._store.open_reader(inbox)
                while True:
                    entries = await self._read(link, inbox, last, most)
                    failures, size = 0, 0
                    for identifier, entry in entries:
                        last, size = identifier, size + len(entry)
                        # One at a time: to decode all of a long read would hold up the process.
                        if hints := self._hints(identifier, entry):
                            yield int(identifier.partition(b"-")[0]), hints
                    most = _next_read(len(entries), size)
            except (LinkError, TimeoutError) as error:
                failures += 1
                self._store.suspect()
                self._log.warning("inbox.disconnected", reason=str(error) or "no answer")
                await asyncio.sleep(self._store.backoff_s(failures))
            finally:
                if link is not None:
                    link.abort()

    @staticmethod
    async def _read(link: Link, inbox: str, last: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Wait for entries behind `last`; drops what is before it."""
        async with asyncio.timeout(_BLOCK_MS / 1000 + _PATIENCE_S):
            _, reply = await link.requests(
                ("XTRIM", inbox, "MINID", "~", last),
                ("XREAD", "COUNT", most, "BLOCK", _BLOCK_MS, "STREAMS", inbox, last),
            )
        if reply is None:
            return []
        (stream,) = fields(reply)
        return [_entry(fields(entry)) for entry in fields(fields(stream)[1])]

    def _hints(self, identifier: bytes, entry: bytes) -> list[AnyHint]:
        try:
            return decode_hints(entry)
        except msgspec.MsgspecError as error:
            self._log.warning("inbox.unreadable", entry=identifier.decode(), error=str(error))
            return []


def _entry(entry: list[Reply]) -> tuple[bytes, bytes]:
    return cast("bytes", entry[0]), cast("bytes", fields(entry[1])[1])


def _next_read(entries: int, size: int) -> int:
    """Give how many entries to read, from how large the last ones were."""
    return max(1, min(_READ_ENTRIES, _READ_BYTES * entries // size)) if size else _READ_ENTRIES
