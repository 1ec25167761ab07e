"""What devices say of their messages, on its way into the store.

Before: `gateway.shard.acks`. After: `router.store.mailbox` with its functions, `router.receipts`.
Everything that was collected while the last flush was under way goes out together, grouped per
device and epoch, one call a group. While the store is away all is kept and sent again; what finds
no room is dropped, oldest first, and counted: those messages are delivered again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

import msgspec
import structlog

from router.model.errors import StoreUnavailableError
from router.model.ids import DeviceId, MessageId
from router.model.mailbox import Ack
from router.model.receipt import Event
from router.policy.limits import WINDOW
from router.policy.retry import Backoff
from router.store.mailbox import Mailboxes
from router.telemetry.metrics import Metrics

MAX_KEPT: Final = 100_000
"""Acks, marks, nacks and events that are kept while the store is away."""
_GROUPS_A_FLUSH: Final = 500
_RETRY: Final = Backoff(base_s=0.05, cap_s=1.0)

_log = structlog.stdlib.get_logger(__name__)


class _Nack(msgspec.Struct, frozen=True, gc=False):
    message: MessageId
    seq: int
    reason: str
    not_before_ms: int


class _Engagement(msgspec.Struct, frozen=True, gc=False):
    message: MessageId
    event: Event
    at_ms: int
    detail: str


class _Group(msgspec.Struct):
    """What one session said since the last flush."""

    now_ms: int
    sent: list[Ack] = []
    acks: list[Ack] = []
    nacks: list[_Nack] = []
    engagements: list[_Engagement] = []
    drops_known: int = 0

    def size(self) -> int:
        return len(self.sent) + len(self.acks) + len(self.nacks) + len(self.engagements)

    def is_plain(self) -> bool:
        """Tell whether one call of `ack` stores it all."""
        rest = self.sent or self.nacks or self.engagements
        return not rest and len(self.acks) <= WINDOW

    def extend(self, later: "_Group") -> None:
        self.sent += later.sent
        self.acks += later.acks
        self.nacks += later.nacks
        self.engagements += later.engagements
        self.drops_known = max(self.drops_known, later.drops_known)


_Key = tuple[DeviceId, int]


class Acks:
    """Collects acks, nacks, `sent` marks and engagement, and stores them.

    All methods but `upstream` and `flush` return at once and never raise.

    Args:
        mailboxes: where they go.
        metrics: counts acks, nacks and what was dropped.
        now_ms: the clock, epoch milliseconds.
        limit: the most that is kept while the store is away.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        metrics: Metrics,
        now_ms: Callable[[], int],
        limit: int = MAX_KEPT,
    ) -> None:
        self._mailboxes = mailboxes
        self._metrics = metrics
        self._now_ms = now_ms
        self._limit = limit
        self._groups: dict[_Key, _Group] = {}
        self._kept = 0
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._flying: set[_Key] = set()
        self._round: asyncio.Future[None] | None = None

    @property
    def kept(self) -> int:
        """How many entries wait to be stored."""
        return self._kept

    def ack(self, device: DeviceId, epoch: int, acks: Sequence[Ack], drops_known: int = 0) -> None:
        """Take messages that the device is done with, and of how many lost ones it has heard."""
        group = self._group(device, epoch, len(acks))
        group.acks.extend(acks)
        group.drops_known = max(group.drops_known, drops_known)

    def sent(self, device: DeviceId, epoch: int, marks: Sequence[Ack]) -> None:
        """Take messages that were written to the socket and are not acked yet."""
        self._group(device, epoch, len(marks)).sent.extend(marks)

    def nack(
        self,
        device: DeviceId,
        epoch: int,
        message: MessageId,
        seq: int,
        reason: str,
        not_before_ms: int,
    ) -> None:
        """Take a message that the device wants again, not before a time (epoch milliseconds)."""
        group = self._group(device, epoch, 1)
        group.nacks.append(_Nack(message, seq, reason, not_before_ms))

    def engage(
        self,
        device: DeviceId,
        epoch: int,
        message: MessageId,
        event: Event,
        at_ms: int,
        detail: str = "",
    ) -> None:
        """Take an engagement event; the store counts each kind once a message."""
        group = self._group(device, epoch, 1)
        group.engagements.append(_Engagement(message, event, at_ms, detail))

    async def upstream(self, device: DeviceId, epoch: int, ref: str, data: bytes) -> bool:
        """Store a message from the device to its app server.

        It is not kept: the device holds it until it is told, and sends it again.

        Returns:
            Whether it was stored; False where the session is no longer the device's.

        Raises:
            StoreUnavailableError: the store is away.
        """
        return await self._mailboxes.upstream(device, epoch, ref, data, self._now_ms())

    async def settle(self, device: DeviceId, epoch: int) -> None:
        """Wait until what one session said so far is stored: before its mailbox is read again.

        Raises:
            StoreUnavailableError: the store is away; what was said is kept.
        """
        key = (device, epoch)
        while key in self._groups or key in self._flying:
            await asyncio.shield(self._round_end())
            if self._failures:
                raise StoreUnavailableError

    async def flush(self) -> None:
        """Wait until all that was taken is stored. The caller sets the deadline."""
        while (task := self._task) is not None:
            await asyncio.shield(task)

    def _group(self, device: DeviceId, epoch: int, entries: int) -> _Group:
        self._kept += entries
        key = (device, epoch)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self._now_ms())
        if self._kept > self._limit:
            self._drop_oldest(key)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain(), name="acks")
        return group

    def _drop_oldest(self, newest: _Key) -> None:
        """Make room: a dict keeps its order, so the first group is the oldest."""
        while self._kept > self._limit and (key := next(iter(self._groups))) != newest:
            dropped = self._groups.pop(key).size()
            self._kept -= dropped
            self._metrics.acks_dropped.inc(dropped)

    async def _drain(self) -> None:
        """Store until nothing is left. Its owner is this object: there is one at a time."""
        try:
            while self._groups:
                await self._flush_once()
                if self._failures:
                    await asyncio.sleep(_RETRY.ceiling_s(self._failures))
        finally:
            self._task = None

    async def _flush_once(self) -> None:
        taken = list(islice(self._groups.items(), _GROUPS_A_FLUSH))
        for key, group in taken:
            del self._groups[key]
            self._kept -= group.size()
        failed: dict[_Key, _Group] = {}
        stored: list[_Group] = []
        self._flying = {key for key, _ in taken}
        begun: list[tuple[_Key, _Group, Awaitable[object]]] = []
        async with asyncio.TaskGroup() as tasks:
            for key, group in taken:
                if group.is_plain():
                    begun.append((key, group, self._begin(key, group)))
                else:
                    told = self._tell(key, group)
                    tasks.create_task(self._finish(key, group, told, stored, failed))
        for key, group, answer in begun:
            await self._finish(key, group, answer, stored, failed)
        self._flying = set()
        self._metrics.acks.inc(sum(len(group.acks) for group in stored))
        self._metrics.nacks.inc(sum(len(group.nacks) for group in stored))
        if failed:
            self._keep(failed)
            self._failures += 1
            if self._failures == 1:
                _log.warning("acks.kept", groups=len(failed))
        elif self._failures:
            self._failures = 0
            _log.info("acks.resumed")
        if self._round is not None:
            self._round.set_result(None)
            self._round = None

    def _round_end(self) -> asyncio.Future[None]:
        """Give what is done when the flush under way, or else the next one, has ended."""
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        return self._round

    def _keep(self, failed: dict[_Key, _Group]) -> None:
        """Put groups back before everything younger."""
        for key, group in failed.items():
            self._kept += group.size()
            if later := self._groups.pop(key, None):
                group.extend(later)
        failed.update(self._groups)
        self._groups = failed
        if self._kept > self._limit:
            self._drop_oldest(next(reversed(self._groups)))

    def _begin(self, key: _Key, group: _Group) -> Awaitable[object]:
        """Call for what most groups hold: acks, and no more than one call takes."""
        device, epoch = key
        return self._mailboxes.begin_ack(device, epoch, group.acks, group.now_ms, group.drops_known)

    async def _tell(self, key: _Key, group: _Group) -> None:
        device, epoch = key
        mailboxes = self._mailboxes
        await mailboxes.mark_sent(device, epoch, group.sent, group.now_ms)
        await mailboxes.ack(device, epoch, group.acks, group.now_ms, group.drops_known)
        for nack in group.nacks:
            await mailboxes.nack(
                device,
                epoch,
                nack.message,
                nack.seq,
                nack.reason,
                nack.not_before_ms,
                group.now_ms,
            )
        for told in group.engagements:
            await mailboxes.engage(
                device, told.message, told.event, told.at_ms, told.detail, group.now_ms
            )

    async def _finish(
        self,
        key: _Key,
        group: _Group,
        answer: Awaitable[object],
        stored: list[_Group],
        failed: dict[_Key, _Group],
    ) -> None:
        """Wait until a group is stored, and sort it by how that went."""
        try:
            await answer
        except StoreUnavailableError:
            failed[key] = group
            return
        except Exception:  # noqa: BLE001 - see below; logged with its traceback
            # A defect of one entry must not stop the acks of every other device.
            self._metrics.acks_dropped.inc(group.size())
            _log.exception("acks.failed", device=key[0])
            return
        stored.append(group)
