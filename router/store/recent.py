"""The index of recent messages: of each project and partition, the newest, by time.

Before: `router.listing`, which fills it from the outbox. After: `lua/note_recent.lua`. An entry is
`<message>|<target>`, with the time in the message's id, negated, as its score: the newest first.
What is accepted but not noted yet stands in the outbox, and is read from there.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, cast

import msgspec

from router.model.ids import CAST_DIGITS, MessageId, Partition, ProjectId
from router.model.message import MAX_TTL_S
from router.model.receipt import Event
from router.policy.limits import MAX_SCHEDULE_S
from router.store import keys
from router.store.connection import Store
from router.store.link import Argument, Reply, fields
from router.store.outbox import QUIET

BATCH: Final = 100
"""Messages in one call of the function."""
_LONGEST_MS: Final = (MAX_TTL_S + MAX_SCHEDULE_S) * 1000
_CHUNK: Final = 16
_CHUNK_ALONE: Final = 128
"""Entries in one read of a partition: of many partitions, or of the only one."""
_TAIL: Final = 64
_TAIL_MS: Final = 10_000
"""So many of a partition's latest events are looked at, no older ones."""
_FIRST: Final = frozenset({Event.ACCEPTED.value, Event.SCHEDULED.value})


class Listed(msgspec.Struct, frozen=True, gc=False):
    """A message as the index knows it."""

    message: MessageId
    target: str
    """A device's id, `/topics/<topic>`, `/users/<user>` or `/groups/<group>`."""

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands in the list: the newest first."""
        return -_accepted_ms(self.message), self.message


class Recent:
    """Notes messages and lists them, newest first.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.

    Args:
        store: where the index stands.
        bound: messages kept of each project and partition.
    """

    def __init__(self, store: Store, bound: int) -> None:
        self._store = store
        self._bound = bound
        self._keep_ms = _LONGEST_MS + store.options.retention_ms

    async def note(self, partition: Partition, found: Mapping[ProjectId, Sequence[Listed]]) -> None:
        """Note messages whose status stands in a partition."""
        calls = []
        for project, listed in found.items():
            for start in range(0, len(listed), BATCH):
                pairs: list[Argument] = []
                for one in listed[start : start + BATCH]:
                    pairs += (one.place[0], f"{one.message}|{one.target}")
                calls.append(
                    self._store.batch.fcall(
                        self._store.library.function("note_recent"),
                        (keys.recent(partition, project),),
                        (self._bound, self._keep_ms, *pairs),
                    )
                )
        for call in calls:
            await call

    async def walk(
        self,
        project: ProjectId,
        partitions: Sequence[Partition],
        after: MessageId | None,
        now_ms: int,
    ) -> AsyncIterator[Listed]:
        """Give the messages of some partitions, newest first, each once.

        Args:
            project: whose.
            partitions: where.
            after: begin behind this one.
            now_ms: the clock, epoch milliseconds.
        """
        start = (-_accepted_ms(after), str(after)) if after else None
        chunk = _CHUNK if len(partitions) > 1 else _CHUNK_ALONE
        runs = [_Run(self._store, keys.recent(one, project), chunk, start) for one in partitions]
        # First the outboxes: what leaves them in between is in the index by then.
        fresh = await self._unnoted(project, partitions, now_ms)
        for run in runs:
            run.ask()
        for run in runs:
            await run.fill()
        runs += [run for one in fresh if (run := _Run(self._store, "", 0, start)).take([one])]
        heads = [(run.waiting[-1].place, number) for number, run in enumerate(runs) if run.waiting]
        heapq.heapify(heads)
        last: MessageId | None = None
        while heads:
            _, number = heads[0]
            run = runs[number]
            listed = run.waiting.pop()
            if not run.waiting and not run.done:
                run.ask()
                await run.fill()
            if run.waiting:
                heapq.heapreplace(heads, (run.waiting[-1].place, number))
            else:
                heapq.heappop(heads)
            if listed.message != last:  # the index and the outbox may both have it
                last = listed.message
                yield listed

    async def _unnoted(
        self, project: ProjectId, partitions: Iterable[Partition], now_ms: int
    ) -> list[Listed]:
        """Read what was accepted just now from the outboxes; most of it is noted already."""
        call = self._store.batch.call
        asked = [
            call("XREVRANGE", keys.outbox(partition), "+", now_ms - _TAIL_MS, "COUNT", _TAIL)
            for partition in partitions
        ]
        found: list[Listed] = []
        for answer in asked:
            for entry in fields(await answer):
                record = cast("bytes", fields(fields(entry)[1])[1]).decode("utf-8", "replace")
                owner, message, target, event, _ = record.split("|", 4)
                target = target.removeprefix(QUIET)
                if owner == project and event in _FIRST and is_listed(message, target):
                    found.append(Listed(MessageId(message), target))
        return found


class _Run:
    """The index of one partition, read piece by piece, from behind a place."""

    def __init__(self, store: Store, key: str, chunk: int, start: tuple[int, str] | None) -> None:
        self.waiting: list[Listed] = []
        """What was read and not given out, the newest last."""
        self.done = not chunk
        self._store = store
        self._key = key
        self._chunk = chunk
        self._start = start
        self._skip = 0
        self._asked: asyncio.Future[Reply] | None = None

    def ask(self) -> None:
        """Begin to read the next piece: from the time of the last one, which others may share."""
        low: Argument = self._start[0] if self._start else "-inf"
        self._asked = self._store.batch.call(
            "ZRANGE", self._key, low, "+inf", "BYSCORE", "LIMIT", self._skip, self._chunk
        )

    async def fill(self) -> None:
        """Take what was asked for, and go on until something waits or nothing is left."""
        while self._asked is not None:
            found = [cast("bytes", member).decode() for member in fields(await self._asked)]
            self._asked = None
            self.done = len(found) < self._chunk
            if self.take([_listed(member) for member in found]):
                self._start, self._skip = self.waiting[0].place, 0
            elif not self.done:
                self._skip += len(found)
                self.ask()

    def take(self, listed: Sequence[Listed]) -> bool:
        """Keep what stands behind the place; False where nothing does."""
        start = self._start
        self.waiting = [one for one in reversed(listed) if start is None or one.place > start]
        return bool(self.waiting)


def _listed(member: str) -> Listed:
    message, _, target = member.partition("|")
    return Listed(MessageId(message), target)


def is_listed(message: str, target: str) -> bool:
    """Tell whether an event is of a whole message, not of its copy for one of many devices."""
    return target.startswith("/") or message[:1] not in CAST_DIGITS


def _accepted_ms(message: MessageId) -> int:
    return int(message[2:11], 36)
