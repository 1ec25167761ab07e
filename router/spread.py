"""From an accepted message to a user or a group to a copy in the mailbox of each device.

Before: `router.cast`, or a worker where the process that accepted it died. After:
`router.store.mailbox` with its `enqueue`, then `router.routing`. All of it may be done again: a
copy enters its mailbox once.
"""

import asyncio
from collections.abc import Callable

import structlog

from router.model.cast import Member, Spreading
from router.model.errors import PushError
from router.model.hint import Deliver
from router.model.ids import MessageId, ProjectId, kept_as, partition_of
from router.model.limits import Limit
from router.model.mailbox import EnqueueResult, Envelope
from router.model.status import MessageStatus
from router.routing import Routing
from router.store.casts import Casts
from router.store.link import Reply
from router.store.mailbox import Mailboxes
from router.store.members import Members
from router.store.pipelined import pipelined
from router.telemetry.metrics import Metrics

_STALE = {EnqueueResult.UNREGISTERED, EnqueueResult.SENDER_ID_MISMATCH}

_log = structlog.stdlib.get_logger(__name__)


class Spreader:
    """Makes the copies of a message, and takes them back.

    Args:
        casts: what is to be spread.
        mailboxes: where the copies go.
        members: where devices that are no members any more are removed.
        routing: how sessions learn of a copy.
        metrics: counts copies that a device does not take.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(
        self,
        casts: Casts,
        mailboxes: Mailboxes,
        members: Members,
        routing: Routing,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._casts = casts
        self._mailboxes = mailboxes
        self._members = members
        self._routing = routing
        self._metrics = metrics
        self._now_ms = now_ms

    async def resume(self, subject: str, now_ms: int) -> None:
        """Go on with a message whose timer is due: a scheduled one, or one that was cut short.

        Raises:
            StoreUnavailableError: the store is away; the timer stands.
        """
        spreading = await self._casts.spread(MessageId(subject), now_ms)
        if spreading is not None:
            await self.spread(spreading)

    async def keep(self, subject: str, now_ms: int) -> None:
        """Look at a message that lasts for long: its status goes once no mailbox holds it.

        Raises:
            StoreUnavailableError: the store is away; the timer stands.
        """
        await self._casts.keep(MessageId(subject), now_ms)

    async def spread(self, spreading: Spreading, *, urgent: bool = False) -> None:
        """Put a copy into each mailbox, or take all of them back.

        Args:
            spreading: what is to be done.
            urgent: whether the copies go before what else waits for the store.

        Raises:
            StoreUnavailableError: the store is away; a worker goes on when the timer is due.
        """
        if not spreading.cancelled:
            reached = await self._put(spreading, urgent=urgent) or await self._casts.has_copies(
                spreading.message, [member.device for member in spreading.members]
            )
            if await self._casts.spread_done(spreading.message, self._now_ms(), reached=reached):
                return
        await self._take_back(spreading)
        await self._casts.spread_done(spreading.message, self._now_ms(), taken_back=True)

    async def cancel(self, project: ProjectId, message: MessageId) -> MessageStatus | None:
        """Take back what is still pending of a message.

        Returns:
            Its status after that, without the copies; None where the project has no such message.

        Raises:
            StoreUnavailableError: the store is away.
        """
        now_ms = self._now_ms()
        found = await self._casts.uncast(message, project, now_ms)
        if found is not None:
            for call in [
                self._mailboxes.begin_cancel(message, device, project, now_ms)
                for device in found.devices
            ]:
                await call
        return found

    async def _put(self, spreading: Spreading, *, urgent: bool = False) -> bool:
        """Enqueue every copy through one pipeline, and hint to the shards.

        Returns:
            Whether one of the devices is a member still.

        Raises:
            PushError: the store did not take one of them.
        """

        def begin(member: Member) -> tuple[Envelope, asyncio.Future[Reply]]:
            envelope = _copy(spreading, member)
            return envelope, self._mailboxes.begin_enqueue(envelope, urgent=urgent)

        results = await pipelined(
            spreading.members,
            begin,
            lambda envelope, reply: self._settle(spreading, envelope, reply),
        )
        stale = [
            member
            for member, result in zip(spreading.members, results, strict=True)
            if result is False
        ]
        if stale:
            _log.info("members.stale", message=spreading.message, devices=len(stale))
            await self._members.remove(spreading.project, spreading.audience, stale)
        for result in results:
            if isinstance(result, PushError):
                raise result
        return len(stale) < len(results)

    async def _settle(
        self, spreading: Spreading, envelope: Envelope, reply: asyncio.Future[Reply]
    ) -> bool:
        """Hint to the device's shard; False where the device is no member any more."""
        enqueued = self._mailboxes.enqueued(envelope, await reply)
        if enqueued.result in _STALE:
            return False
        if enqueued.result is EnqueueResult.THROTTLED:
            self._metrics.limit_refusals.labels(Limit.DEVICE.value).inc()
        if (route := enqueued.route) is not None:
            hint = Deliver(
                envelope.device,
                route.epoch,
                enqueued.seq,
                spreading.message,
                envelope.expires_ms,
                envelope.frame,
                spreading.lane,
            )
            self._routing.hint(route, hint)
        return True

    async def _take_back(self, spreading: Spreading) -> None:
        now_ms = self._now_ms()
        for call in [
            self._mailboxes.begin_cancel(
                spreading.message, member.device, spreading.project, now_ms
            )
            for member in spreading.members
        ]:
            await call


def _copy(spreading: Spreading, member: Member) -> Envelope:
    return Envelope(
        project=spreading.project,
        partition=partition_of(member.device),
        device=member.device,
        nonce=member.proof(spreading.audience),
        message=kept_as(spreading.message, member.device),
        frame=spreading.frame,
        now_ms=spreading.accepted_ms,
        expires_ms=spreading.expires_ms,
        collapse_key=spreading.collapse_key,
        bridge=spreading.bridge,
        part=spreading.part,
        rate=spreading.rate,
    )
