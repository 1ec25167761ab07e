"""The export's group in every outbox, and what it last did.

Before: `router.export`. After: the outbox's stream. Unlike other groups this one counts: beside its
cursor stands how many entries the outbox has ever had up to there. So the store itself knows how
far the export is behind, and a trim that went past the cursor shows in how much it took.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final, cast

import msgspec

from router.model.errors import PushError, StoreReplyError
from router.model.ids import Partition, all_partitions
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields
from router.store.outbox import Outbox

GROUP: Final = "export"
_START: Final = "0-0"


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A place in an outbox."""

    entry: str
    """Id of the last entry before it."""
    number: int
    """How many entries the outbox ever had up to there, as far as that is known."""


class LastFile(msgspec.Struct, frozen=True):
    """The last file that a sink took."""

    name: str
    time_ms: int
    events: int
    bytes: int
    worker: str


class Failure(msgspec.Struct, frozen=True):
    """Why a sink takes nothing now."""

    time_ms: int
    """When it began."""
    reason: str
    worker: str


class Standing(msgspec.Struct, frozen=True):
    """How the export stands."""

    partitions: int
    """That have a group: 0 where nothing is exported."""
    waiting: int
    """Entries that are in no file yet."""
    oldest_ms: int
    """When the oldest of them was written; 0 where there is none."""
    file: LastFile | None
    failure: Failure | None


class Exports:
    """Places of the export, and notes on it.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outbox = Outbox(store)

    async def open(self, partition: Partition) -> Mark:
        """Give the place behind the last event that is in a file.

        Where there was no group, one begins with what the outbox still holds.
        """
        found = await self._find(partition)
        if found is None:
            removed = _removed(await _answer(self._ask(partition)))
            with contextlib.suppress(StoreReplyError):  # it has come to be meanwhile
                await self._store.batch.call(
                    *("XGROUP", "CREATE", keys.outbox(partition), GROUP, _START, "MKSTREAM"),
                    *("ENTRIESREAD", removed),
                )
            found = await self._find(partition)
        return found or Mark(_START, 0)

    async def close(self, partition: Partition) -> None:
        """End the group of one partition: nothing is kept for it any more."""
        await self._outbox.close_group(partition, GROUP)

    async def read(self, partition: Partition, after: Mark, limit: int) -> list[tuple[str, bytes]]:
        """Read up to `limit` entries as (id, record); without what devices sent."""
        read = await self._outbox.read_after(partition, after.entry, limit)
        return [(entry, record) for entry, record, _ in read]

    async def read_behind(
        self, partition: Partition, after: Mark, limit: int
    ) -> tuple[list[tuple[str, bytes]], int]:
        """Read like `read`, and count the entries that were ever trimmed off the outbox."""
        asked = self._ask(partition)  # in one pipeline with the read, and before it
        read = await self.read(partition, after, limit)
        return read, _removed(await _answer(asked))

    async def move(self, marks: Mapping[Partition, Mark]) -> frozenset[Partition]:
        """Say that everything up to these places is in files; a cursor never goes back.

        Returns:
            The partitions whose group is gone, with the data of the store.
        """
        lost: set[Partition] = set()
        errors: list[PushError] = []

        async def one(partition: Partition, mark: Mark) -> None:
            try:
                if not await self._move(partition, mark):
                    lost.add(partition)
            except PushError as error:
                errors.append(error)

        async with asyncio.TaskGroup() as tasks:
            for partition, mark in marks.items():
                tasks.create_task(one(partition, mark))
        if errors:
            raise errors[0]
        return frozenset(lost)

    async def _move(self, partition: Partition, mark: Mark) -> bool:
        found = await self._find(partition)
        if found is None:
            return False
        # Another owner of the partition may be further: going back would tell its events again.
        if place(found.entry) < place(mark.entry):
            await self._store.batch.call(
                *("XGROUP", "SETID", keys.outbox(partition), GROUP, mark.entry),
                *("ENTRIESREAD", mark.number),
            )
        return True

    async def note_file(self, file: LastFile) -> None:
        """Note what a sink took; a failure is over."""
        batch = self._store.batch
        over = batch.call("HDEL", keys.EXPORT, "failure")
        await batch.call("HSET", keys.EXPORT, "file", msgspec.json.encode(file))
        await over

    async def note_failure(self, failure: Failure) -> None:
        """Note why a sink takes nothing."""
        await self._store.batch.call("HSET", keys.EXPORT, "failure", msgspec.json.encode(failure))

    async def standing(self) -> Standing:
        """Say how the export stands, over all partitions."""
        marks = [(partition, await self._find(partition)) for partition in all_partitions()]
        open_ = [(partition, mark) for partition, mark in marks if mark is not None]
        waiting, oldest = 0, [0]
        for partition, mark in open_:
            info = await _answer(self._ask(partition))
            first = await self.read(partition, mark, 1)
            if first:
                oldest.append(place(first[0][0])[0])
                behind = info.get("entries-added", 0) - mark.number
                waiting += max(1, min(info.get("length", 0), behind))
        file, failure = fields(
            await self._store.batch.call("HMGET", keys.EXPORT, "file", "failure")
        )
        return Standing(
            partitions=len(open_),
            waiting=waiting,
            oldest_ms=min(oldest[1:], default=0),
            file=msgspec.json.decode(file, type=LastFile) if isinstance(file, bytes) else None,
            failure=(
                msgspec.json.decode(failure, type=Failure) if isinstance(failure, bytes) else None
            ),
        )

    async def _find(self, partition: Partition) -> Mark | None:
        """Give the group's place, or None where there is no group."""
        for info in await self._outbox.groups(partition):
            if info["name"] == GROUP.encode():
                number = info.get("entries-read")
                entry = cast("bytes", info["last-delivered-id"]).decode()
                return Mark(entry, number if isinstance(number, int) else 0)
        return None

    def _ask(self, partition: Partition) -> asyncio.Future[Reply]:
        return self._store.batch.call("XINFO", "STREAM", keys.outbox(partition))


async def _answer(asked: asyncio.Future[Reply]) -> dict[str, int]:
    """Read the numbers of XINFO STREAM by name; empty where there is no such stream yet."""
    try:
        flat = fields(await asked)
    except StoreReplyError:
        return {}
    named = zip(flat[::2], flat[1::2], strict=True)
    return {cast("bytes", name).decode(): value for name, value in named if isinstance(value, int)}


def _removed(info: Mapping[str, int]) -> int:
    return info.get("entries-added", 0) - info.get("length", 0)


def place(entry: str) -> tuple[int, int]:
    """Take the id of an entry apart: epoch milliseconds and a number; they compare."""
    time, _, number = entry.partition("-")
    return int(time), int(number)
