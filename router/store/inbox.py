"""Inboxes: the stream of hints to each shard.

Before: `router.routing`. After: `gateway.shard.inbox`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final, cast

import msgspec
import structlog

from router.model.hint import AnyHint, decode_hints, encode_hints
from router.model.ids import ShardId
from router.store import keys
from router.store.connection import Store
from router.store.link import Link, LinkError, Reply, fields, open_link

_MAX_ENTRIES: Final = 20_000
"""Entries that an inbox holds; older ones are lost, and timers deliver again."""
_READ_ENTRIES: Final = 500
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

    async def append(self, shard: ShardId, hints: Sequence[AnyHint]) -> bool:
        """Append one entry; False where the shard has no inbox (any more): the hints are lost.

        Raises:
            StoreUnavailableError: the store did not answer in time.
        """
        reply = await self._store.batch.call(
            "XADD",
            keys.shard_inbox(shard),
            "NOMKSTREAM",
            "MAXLEN",
            "~",
            _MAX_ENTRIES,
            "*",
            "h",
            encode_hints(hints),
        )
        return reply is not None

    async def open(self, shard: ShardId) -> None:
        """Create the inbox of a shard that starts; its leases keep it from then on."""
        batch = self._store.batch
        inbox = keys.shard_inbox(shard)
        created = batch.call("XADD", inbox, "MAXLEN", "~", _MAX_ENTRIES, "*", "h", encode_hints(()))
        kept = batch.call("PEXPIRE", inbox, _KEEP_MS)
        await created
        await kept

    async def close(self, shard: ShardId) -> None:
        """Delete the inbox of a shard that stops."""
        await self._store.batch.call("UNLINK", keys.shard_inbox(shard))

    async def reader(self, shard: ShardId) -> AsyncGenerator[tuple[int, list[AnyHint]], None]:
        """Yield (time of the entry in epoch milliseconds, its hints), for ever.

        Reads on a connection of its own, which it opens again as often as need be; what was read is
        trimmed.
        """
        last, failures = b"0-0", 0
        while True:
            link: Link | None = None
            try:
                link = await open_link(self._store.address, _PATIENCE_S)
                while True:
                    entries = await self._read(link, shard, last)
                    failures = 0
                    for identifier, hints in entries:
                        last = identifier
                        if hints:
                            yield int(identifier.partition(b"-")[0]), hints
            except (LinkError, TimeoutError) as error:
                failures += 1
                self._log.warning("inbox.disconnected", reason=str(error) or "no answer")
                await asyncio.sleep(self._store.backoff_s(failures))
            finally:
                if link is not None:
                    link.abort()

    async def _read(
        self, link: Link, shard: ShardId, last: bytes
    ) -> list[tuple[bytes, list[AnyHint]]]:
        """Wait for entries behind `last`; drops what is before it."""
        inbox = keys.shard_inbox(shard)
        async with asyncio.timeout(_BLOCK_MS / 1000 + _PATIENCE_S):
            _, reply = await link.requests(
                ("XTRIM", inbox, "MINID", "~", last),
                ("XREAD", "COUNT", _READ_ENTRIES, "BLOCK", _BLOCK_MS, "STREAMS", inbox, last),
            )
        if reply is None:
            return []
        (stream,) = fields(reply)
        return [self._entry(fields(entry)) for entry in fields(fields(stream)[1])]

    def _entry(self, entry: list[Reply]) -> tuple[bytes, list[AnyHint]]:
        identifier = cast("bytes", entry[0])
        try:
            return identifier, decode_hints(cast("bytes", fields(entry[1])[1]))
        except msgspec.MsgspecError as error:
            self._log.warning("inbox.unreadable", entry=identifier.decode(), error=str(error))
            return identifier, []
