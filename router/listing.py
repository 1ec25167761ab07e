"""Recent messages of a project: noted as they are accepted, listed page by page.

Before: `router.receipts`, which hands over the events, and `gateway.api.resources.message_list`.
After: `router.store.recent` and `router.store.messages`. Messages are noted from the outbox, many
in one call, so that accepting one costs nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from router.model.ids import (
    MessageId,
    Partition,
    ProjectId,
    all_partitions,
    partition_of_message,
)
from router.model.receipt import Event, Receipt
from router.model.status import MessageStatus
from router.receipts import ReceiptSink
from router.store.casts import Casts
from router.store.messages import Messages
from router.store.recent import Listed, Recent, is_listed

MAX_SCANNED: Final = 2_000
"""Entries of the index that one page looks at."""
MAX_READ: Final = 500
"""Statuses that one page reads."""
_TOGETHER: Final = 50
_OURS: Final = "_"
"""Projects of our own, such as that of the shards' probes, begin with it; nobody lists them."""
_FIRST: Final = frozenset({Event.ACCEPTED, Event.SCHEDULED})


class RecentSink:
    """Notes what was accepted, then hands all events on.

    Args:
        recent: the index.
        rest: who takes the events besides.
    """

    def __init__(self, recent: Recent, rest: ReceiptSink) -> None:
        self._recent = recent
        self._rest = rest

    async def take(self, receipts: Sequence[Receipt]) -> None:
        """Deal with events of one partition, in order; some come again after a failure."""
        found: dict[ProjectId, list[Listed]] = {}
        for receipt in receipts:
            target = receipt.target or receipt.device
            if receipt.project.startswith(_OURS):
                continue
            if receipt.event in _FIRST and is_listed(receipt.message, target):
                found.setdefault(receipt.project, []).append(Listed(receipt.message, target))
        if found:
            first = next(iter(found.values()))[0].message
            await self._recent.note(partition_of_message(first), found)
        await self._rest.take(receipts)


class Wanted(msgspec.Struct, frozen=True):
    """Which messages a page is to hold.

    `partition` and `target` None: of all. `states` empty: in any state.
    """

    partition: Partition | None = None
    target: str | None = None
    states: frozenset[str] = frozenset()
    after: MessageId | None = None
    size: int = 50


class Page(msgspec.Struct, frozen=True):
    """Messages, newest first; `last` is where the next page goes on, None at the end."""

    messages: tuple[MessageStatus, ...]
    last: MessageId | None


class Listing:
    """Lists recent messages.

    Args:
        recent: the index.
        messages: their statuses.
        casts: how messages to users and groups stand for each device.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(
        self, recent: Recent, messages: Messages, casts: Casts, now_ms: Callable[[], int]
    ) -> None:
        self._recent = recent
        self._messages = messages
        self._casts = casts
        self._now_ms = now_ms

    async def page(self, project: ProjectId, wanted: Wanted) -> Page:
        """Give a page. It may hold fewer than asked for, even none, and yet not be the last.

        Raises:
            StoreUnavailableError: the store is away.
        """
        now_ms = self._now_ms()
        partitions = [wanted.partition] if wanted.partition is not None else all_partitions()
        reading = _Reading(self._messages, self._casts, project, wanted.states, now_ms)
        candidates: list[MessageId] = []
        scanned = 0
        last: MessageId | None = None
        async for listed in self._recent.walk(project, partitions, wanted.after, now_ms):
            if scanned == MAX_SCANNED:
                await reading.take(candidates)
                return reading.page(wanted.size, reading.last if reading.full else last)
            scanned += 1
            last = listed.message
            if wanted.target is not None and listed.target != wanted.target:
                continue
            candidates.append(listed.message)
            # One more than the page holds tells whether another follows.
            if len(candidates) == min(_TOGETHER, wanted.size + 1 - len(reading.found)):
                await reading.take(candidates)
                candidates = []
                if reading.full or len(reading.found) > wanted.size:
                    return reading.page(wanted.size, reading.last)
        await reading.take(candidates)
        return reading.page(wanted.size, reading.last if reading.full else None)


class _Reading:
    """The statuses of one page."""

    def __init__(
        self,
        messages: Messages,
        casts: Casts,
        project: ProjectId,
        states: frozenset[str],
        now_ms: int,
    ) -> None:
        self.found: list[MessageStatus] = []
        self.last: MessageId | None = None
        """What was read last."""
        self.full = False
        """Whether the page may read no more."""
        self._messages = messages
        self._casts = casts
        self._project = project
        self._states = states
        self._now_ms = now_ms
        self._read = 0

    async def take(self, candidates: Sequence[MessageId]) -> None:
        """Read statuses, and keep those that are there and in a state that is asked for."""
        if self.full:
            return
        statuses = await self._messages.statuses(candidates)
        for message, status in zip(candidates, statuses, strict=True):
            cost = 1 + (len(status.devices) if status is not None else 0)
            if self._read and self._read + cost > MAX_READ:
                self.full = True
                return
            self._read += cost
            self.last = message
            if status is not None and status.project == self._project:
                await self._keep(status)

    async def _keep(self, status: MessageStatus) -> None:
        if status.audience is not None:
            status = msgspec.structs.replace(status, copies=await self._casts.copies(status))
        if not self._states or status.shown_state(self._now_ms) in self._states:
            self.found.append(status)

    def page(self, size: int, last: MessageId | None) -> Page:
        """Give the page; `last` is where the next one goes on if this one is not full."""
        kept = tuple(self.found[:size])
        return Page(kept, kept[-1].id if len(self.found) > size else last)
