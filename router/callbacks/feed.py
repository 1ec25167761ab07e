"""From the outbox to the lanes of endpoints: each event once, in order, cheap where nobody asks.

Before: the store's functions, which write events. After: `router.callbacks.delivery`.

The group has a cursor of its own, and each lane a mark per partition: the last entry that it took.
A worker that dies between the two repeats nothing. Without any webhook there is no group, and a
round of a partition costs nothing at all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from router.callbacks.bodies import Bodies, Told
from router.callbacks.directory import Directory
from router.model.ids import (
    CAST_DIGITS,
    CAST_QUIET_ENDS,
    MESSAGE_CHARACTERS,
    QUIET_DIGITS,
    TOPIC_DIGITS,
    DeviceId,
    MessageId,
    Partition,
)
from router.model.webhook import BATCH, LANES, DeadLetter, Kind, Webhook, lane_of
from router.store.callbacks import FULL, LINGER_MS, Lanes, Source, element
from router.store.dead_letters import DeadLetters
from router.store.members import Members
from router.store.messages import Messages
from router.store.outbox import QUIET, Outbox, RawEntry
from router.telemetry.metrics import Metrics

GROUP: Final = "callbacks"
WINDOW: Final = 500
"""Entries in one read."""
OVERFLOW: Final = "overflow"
_QUIET_KINDS: Final = frozenset(QUIET_DIGITS.encode())
_CAST_KINDS: Final = frozenset(CAST_DIGITS.encode())
_CAST_QUIET_ENDS: Final = frozenset(CAST_QUIET_ENDS.encode())
_TOPIC_KINDS: Final = frozenset(TOPIC_DIGITS.encode())
_QUIET: Final = QUIET.encode()


class _Item(msgspec.Struct, frozen=True, gc=False):
    """What one entry tells."""

    entry: str
    told: Told


class Feed:
    """Reads outboxes for all webhooks; one reader of `router.partitions`.

    Args:
        outbox: where events wait.
        lanes: where they go.
        letters: where what finds no room goes.
        directory: who wants what.
        members: whose a device is.
        messages: what a message to a condition is for.
        metrics: counts what found no room.
        now_ms: the clock, epoch milliseconds.
        new_id: makes the id of a callback.
        backlog_bytes: what an endpoint's lanes hold together.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - it stands between two stores and knows both
        self,
        outbox: Outbox,
        lanes: Lanes,
        letters: DeadLetters,
        directory: Directory,
        members: Members,
        messages: Messages,
        metrics: Metrics,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
        backlog_bytes: int,
    ) -> None:
        self._outbox = outbox
        self._lanes = lanes
        self._letters = letters
        self._directory = directory
        self._members = members
        self._messages = messages
        self._metrics = metrics
        self._now_ms = now_ms
        self._new_id = new_id
        self._lane_bytes = backlog_bytes // LANES
        self._bodies = Bodies()
        self._open: dict[Partition, bool] = {}

    async def take_over(self, partition: Partition) -> None:
        """Forget what is known of a partition; the next round looks anew."""
        self._open.pop(partition, None)

    async def run_once(self, partition: Partition) -> bool:
        """Hand one window of events to the lanes that want them.

        Returns:
            Whether the window was full, so that more may wait.

        Raises:
            StoreUnavailableError: the store is away; the same events come again.
        """
        directory = self._directory
        if not directory.by_project:
            if directory.is_loaded and self._open.get(partition) is not False:
                await self._close(partition)
            return False
        if not self._open.get(partition):
            await self._outbox.take_over(partition, GROUP)
            self._open[partition] = True
        try:
            read = await self._outbox.read_raw(partition, GROUP, WINDOW)
            if not read:
                return False
            # After the read: a webhook hears of all that happened since its call was answered.
            await directory.refresh()
            heard = [entry for entry in read if self._is_heard(entry[1])]
            users = await self._users(heard)
            selections = await self._selections(heard)
            for webhook, items in self._sort(heard, users, selections).values():
                await self._push(webhook, partition, items)
            await self._outbox.advance(partition, GROUP, read[-1][0])
        except Exception:
            self._open.pop(partition, None)  # the group may be gone with the store's data
            raise
        return len(read) >= WINDOW

    async def _close(self, partition: Partition) -> None:
        """Keep no events any more; but look once more whether a webhook was made just now."""
        await self._directory.refresh()
        if not self._directory.by_project:
            await self._outbox.close_group(partition, GROUP)
            self._open[partition] = False

    async def _selections(self, read: Sequence[RawEntry]) -> dict[bytes, bytes]:
        """Look up what messages to conditions and filters are for: the outbox knows only that."""
        messages = {self._bodies.selected(record) for _, record, _ in read} - {b""}
        found = await self._messages.selections([MessageId(one.decode()) for one in messages])
        return {message.encode(): text.encode() for message, text in found.items()}

    async def _users(self, read: Sequence[RawEntry]) -> dict[bytes, bytes]:
        """Look up whose the devices of receipts are, each once; devices of nobody are left out.

        What is told of an entry is written once, and does not change when a callback is repeated.
        """
        wanting = {
            project
            for project, webhooks in self._directory.by_project.items()
            if any(Kind.RECEIPTS in webhook.events for webhook in webhooks)
        }
        devices = {
            self._bodies.device_of(record)
            for _, record, _ in read
            if record[: record.index(b"|")] in wanting
        }
        found = await self._members.users([DeviceId(one.decode()) for one in devices if one])
        return {device.encode(): msgspec.json.encode(user) for device, user in found.items()}

    def _is_heard(self, record: bytes) -> bool:
        """Tell whether a webhook may want an entry."""
        bar = record.index(b"|")
        return record[:bar] in self._directory.by_project and not _is_quiet(record, bar + 1)

    def _sort(
        self,
        read: Sequence[RawEntry],
        users: Mapping[bytes, bytes],
        selections: Mapping[bytes, bytes],
    ) -> dict[str, tuple[Webhook, list[_Item]]]:
        wanted: dict[str, tuple[Webhook, list[_Item]]] = {}
        by_project = self._directory.by_project
        for entry, record, data in read:
            item = _Item(entry, self._bodies.read(record, data, users, selections))
            for webhook in by_project[record[: record.index(b"|")]]:
                if item.told.kind in webhook.events:
                    wanted.setdefault(webhook.id, (webhook, []))[1].append(item)
        return wanted

    async def _push(self, webhook: Webhook, partition: Partition, items: list[_Item]) -> None:
        """Put events into the lane of a partition; some may have been put there before."""
        while items:
            now_ms = self._now_ms()
            receipts = all(item.told.kind is Kind.RECEIPTS for item in items)
            mark = await self._lanes.push(
                webhook.id,
                Source(partition, items[0].entry, items[-1].entry),
                now_ms,
                LINGER_MS if receipts else 0,
                self._lane_bytes,
                [
                    element("r" if item.told.kind is Kind.RECEIPTS else "c", now_ms, part)
                    for item in items
                    for part in item.told.parts
                ],
            )
            if not mark:
                return
            if mark == FULL:
                await self._bury(webhook, partition, items)
                return
            items = [item for item in items if _place(item.entry) > _place(mark)]

    async def _bury(self, webhook: Webhook, partition: Partition, items: list[_Item]) -> None:
        """Make dead letters of what found no room."""
        now_ms = self._now_ms()
        for group in _groups(items):
            parts = [part for item in group for part in item.told.parts]
            kind, receipts, body = group[0].told.kind, 0, parts[0]
            if kind is Kind.RECEIPTS:
                head, tail = self._bodies.around(webhook.project, now_ms)
                receipts, body = len(parts), head + b",".join(parts) + tail
            letter = DeadLetter(
                id=self._new_id(),
                webhook=webhook.id,
                lane=lane_of(partition),
                kind=kind.value,
                receipts=receipts,
                created_ms=now_ms,
                died_ms=now_ms,
                reason=OVERFLOW,
                history=(),
                body=body,
            )
            lost = await self._letters.bury(letter, partition, group[-1].entry)
            if lost is not None:
                self._metrics.callbacks_dead.labels(OVERFLOW).inc()
                self._metrics.dead_letters_lost.inc(lost)


def _is_quiet(record: bytes, message: int) -> bool:
    """Tell whether nobody wants receipts of the message whose id begins there."""
    kind = record[message]
    if kind in _QUIET_KINDS:
        return True
    if kind in _CAST_KINDS:
        return record[message + MESSAGE_CHARACTERS - 1] in _CAST_QUIET_ENDS
    return kind in _TOPIC_KINDS and record.startswith(_QUIET, record.index(b"|", message) + 1)


def _groups(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    """Divide into what one body holds: receipts together, others alone."""
    group: list[_Item] = []
    size = 0
    for item in items:
        more = len(item.told.parts)
        alone = item.told.kind is not Kind.RECEIPTS
        if group and (alone or size + more > BATCH or group[0].told.kind is not Kind.RECEIPTS):
            yield group
            group, size = [], 0
        group.append(item)
        size += more
    if group:
        yield group


def _place(entry: str) -> tuple[int, int]:
    time, _, number = entry.partition("-")
    return int(time), int(number)
