"""From a valid message to a user or a group to a stored one, with a copy for each device.

Before: `gateway.api.resources.messages`. After: `router.store.casts` with its `cast`, where it is
accepted, then `router.spread`. What is sent to a token, a user and a group one after another
arrives in this order, so the copies are made before the sender is answered. The device frame is
encoded here, once for all devices.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from router.bridge_terms import NO_TERMS, BridgeTerms
from router.model.audience import Audience, AudienceKind
from router.model.cast import Accepted, CastEnvelope, CastResult, Spreading
from router.model.errors import (
    ErrorCode,
    FieldViolation,
    PushError,
    StoreOutcomeUnknownError,
    StoreUnavailableError,
)
from router.model.ids import ENTROPY_BYTES, MessageId, ProjectId, new_cast_id
from router.model.lane import LANE_OF, slowest
from router.model.limits import UNLIMITED, Rate
from router.model.message import Message, ReceiptMode
from router.model.status import MessageStatus
from router.policy.intake import take_in
from router.spread import Spreader
from router.store.casts import Casts
from router.store.link import Reply
from router.store.members import Members
from router.store.pipelined import pipelined

_AT_ONCE: Final = 500
"""Copies on their way to the store before the next messages of a batch are begun."""

MAX_COPIES: Final = 5_000
"""Copies that the messages of one request make at the most: 500 messages to 500 devices each would
keep the store and the API process from all others for many seconds."""
_FEW: Final = 5
"""So many messages need no count before they are accepted: no list is longer than 1000."""

_log = structlog.stdlib.get_logger(__name__)


class Casting(msgspec.Struct, frozen=True, gc=False):
    """One message to a user or a group, with the idempotency key and digest of its own."""

    audience: Audience
    message: Message
    idempotency_key: str = ""
    digest: str = ""
    rate: Rate = UNLIMITED
    """What each of its devices takes."""


class Caster:
    """Accepts messages to users and groups, and has them spread.

    Args:
        casts: where they are accepted.
        members: who gets them.
        spreader: makes the copies.
        now_ms: the clock, epoch milliseconds.
        entropy: gives so many random bytes.
        withdraw: takes back, later, what may have been stored although its sender heard that
            nothing was (`router.send`).
        max_copies: that the messages of one request make.
        terms: on which a bridge may carry a message; None: none carries any.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the stores and stages beside it, each once
        self,
        casts: Casts,
        members: Members,
        spreader: Spreader,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
        withdraw: Callable[[ProjectId, MessageId], None],
        max_copies: int = MAX_COPIES,
        terms: BridgeTerms | None = None,
    ) -> None:
        self._casts = casts
        self._members = members
        self._spreader = spreader
        self._now_ms = now_ms
        self._entropy = entropy
        self._withdraw = withdraw
        self._max_copies = max_copies
        self._terms = terms

    async def cast(self, project: ProjectId, casting: Casting) -> MessageId:
        """Store one message; once this returns it is accepted.

        Raises:
            PushError: INVALID_ARGUMENT (payload above 4096 bytes, `send_at` too far ahead),
                UNREGISTERED (no devices), NOT_FOUND (no such group), IDEMPOTENCY_KEY_REUSED.
            StoreUnavailableError: the store is away; nothing was accepted.
        """
        (outcome,) = await self.cast_batch(project, [casting])
        if isinstance(outcome, PushError):
            raise outcome
        return outcome

    async def cast_batch(
        self, project: ProjectId, castings: Sequence[Casting]
    ) -> list[MessageId | PushError]:
        """Store several messages: one pipeline accepts them, then their copies follow in order.

        They are as urgent as the least urgent of them: none overtakes those before it. From the
        first on that would make too many copies, they are refused (INVALID_ARGUMENT).

        Returns:
            For each, in order, its id or its own error.
        """
        try:
            fitting = await self._fitting(project, castings)
        except StoreUnavailableError as error:
            return [error] * len(castings)
        taken = await self._cast_all(project, castings[:fitting])
        return [*taken, *(self._too_many(one.audience) for one in castings[fitting:])]

    async def _fitting(self, project: ProjectId, castings: Sequence[Casting]) -> int:
        """Tell how many of the messages, the first ones first, do not make too many copies.

        A scheduled one makes its copies in a worker, when it is due.
        """
        if len(castings) <= _FEW:
            return len(castings)
        sizes = await self._members.sizes(project, {one.audience for one in castings})
        copies, now_ms = 0, self._now_ms()
        for index, one in enumerate(castings):
            if (one.message.send_at_ms or 0) <= now_ms:
                copies += sizes[one.audience]
            if copies > self._max_copies:
                return index
        return len(castings)

    def _too_many(self, audience: Audience) -> PushError:
        accepted = (
            f"the messages of one request go to {self._max_copies} devices of users and groups at "
            "the most, and with this one it would be more: send it in another request"
        )
        field = f"message.{audience.kind.value}"
        return PushError(
            ErrorCode.INVALID_ARGUMENT,
            f"{field}: {accepted}",
            violations=(FieldViolation(field, accepted),),
        )

    async def _cast_all(
        self, project: ProjectId, castings: Sequence[Casting]
    ) -> list[MessageId | PushError]:
        urgent = slowest(one.message.priority for one in castings).urgent

        def begin(casting: Casting) -> tuple[CastEnvelope, asyncio.Future[Reply]]:
            envelope = self._envelope(project, casting)
            return envelope, self._casts.begin_cast(envelope, urgent=urgent)

        outcomes = await pipelined(castings, begin, self._accepted)
        accepted = [one for one in outcomes if not isinstance(one, PushError)]
        await self._spread_all(accepted, urgent=urgent)
        return [one if isinstance(one, PushError) else one.message for one in outcomes]

    async def status(self, found: MessageStatus) -> MessageStatus:
        """Add to a status where the message stands for each device.

        Raises:
            StoreUnavailableError: the store is away.
        """
        return msgspec.structs.replace(found, copies=await self._casts.copies(found))

    async def cancel(self, project: ProjectId, message: MessageId) -> MessageStatus | None:
        """Take back what is still pending of a message.

        Returns:
            Its status after that, or None where the project has no such message.

        Raises:
            StoreUnavailableError: the store is away.
        """
        found = await self._spreader.cancel(project, message)
        return None if found is None else await self.status(found)

    async def check(
        self, project: ProjectId, audience: Audience, send_at_ms: int | None = None
    ) -> None:
        """Check that a message would be accepted, as far as its target goes.

        A scheduled one may have no devices yet.

        Raises:
            PushError: as `cast`.
        """
        members = await self._members.listed(project, audience)
        if members is None and audience.kind is AudienceKind.GROUP:
            raise _refusal(CastResult.NO_GROUP, audience)
        if not members and (send_at_ms or 0) <= self._now_ms():
            raise _refusal(CastResult.NO_DEVICES, audience)

    async def _accepted(self, envelope: CastEnvelope, reply: asyncio.Future[Reply]) -> Spreading:
        """Give what is to be spread, without members where nothing is left to do."""
        try:
            accepted = self._casts.accepted(envelope, await reply)
        except StoreOutcomeUnknownError:
            # With a key its sender repeats the request and gets this very id.
            if not envelope.idempotency_key:
                self._withdraw(envelope.project, envelope.message)
            raise
        if accepted.result not in {CastResult.ACCEPTED, CastResult.REPEATED}:
            raise _refusal(accepted.result, envelope.audience)
        return _to_spread(envelope, accepted)

    async def _spread_all(self, spreadings: Sequence[Spreading], *, urgent: bool) -> None:
        """Make the copies in order, a part at once: others use the store's queue too."""
        part: list[Spreading] = []
        for spreading in spreadings:
            part.append(spreading)
            if sum(len(one.members) for one in part) >= _AT_ONCE:
                await self._spread_part(part, urgent=urgent)
                part = []
        await self._spread_part(part, urgent=urgent)

    async def _spread_part(self, part: Sequence[Spreading], *, urgent: bool) -> None:
        # Each task enqueues its copies before it waits for anything: so they are made in order.
        async with asyncio.TaskGroup() as tasks:
            for spreading in part:
                if spreading.members:
                    tasks.create_task(self._spread(spreading, urgent=urgent))

    async def _spread(self, spreading: Spreading, *, urgent: bool) -> None:
        """Make the copies; what the store does not take now, a worker does."""
        try:
            await self._spreader.spread(spreading, urgent=urgent)
        except StoreUnavailableError:
            _log.warning("cast.left_to_worker", message=spreading.message)
        except PushError:
            _log.exception("cast.failed", message=spreading.message)

    def _envelope(self, project: ProjectId, casting: Casting) -> CastEnvelope:
        """Fix everything that is stored: id, times, frame."""
        message, audience, now_ms = casting.message, casting.audience, self._now_ms()
        partition, entropy = audience.partition(project), self._entropy(ENTROPY_BYTES)
        quiet = message.receipts is not ReceiptMode.DEVICE
        identifier = new_cast_id(partition, now_ms, entropy, quiet=quiet)
        taken = take_in(message, identifier, now_ms)
        terms = (
            NO_TERMS
            if self._terms is None
            else self._terms.of_many(project, message, identifier, taken)
        )
        return CastEnvelope(
            project=project,
            audience=audience,
            message=identifier,
            frame=taken.frame,
            now_ms=now_ms,
            expires_ms=taken.expires_ms,
            collapse_key=message.collapse_key,
            lane=LANE_OF[message.priority],
            send_at_ms=taken.send_at_ms,
            idempotency_key=casting.idempotency_key,
            idempotency_digest=casting.digest,
            label=message.label,
            bridge=terms.policy,
            part=terms.part,
            rate=casting.rate,
        )


def _to_spread(envelope: CastEnvelope, accepted: Accepted) -> Spreading:
    return Spreading(
        project=envelope.project,
        audience=envelope.audience,
        message=accepted.message,
        frame=envelope.frame,
        accepted_ms=envelope.now_ms,
        expires_ms=envelope.expires_ms,
        members=accepted.members,
        collapse_key=envelope.collapse_key,
        lane=envelope.lane,
        bridge=envelope.bridge,
        part=envelope.part,
        rate=envelope.rate,
    )


def _refusal(result: CastResult, audience: Audience) -> PushError:
    if result is CastResult.NO_GROUP:
        return PushError(ErrorCode.NOT_FOUND, "message.group: the project has no such group.")
    if result is CastResult.KEY_REUSED:
        return PushError(
            ErrorCode.IDEMPOTENCY_KEY_REUSED,
            "The idempotency key was used for another request; take a new key.",
        )
    return PushError(
        ErrorCode.UNREGISTERED,
        f"message.{audience.kind.value}: has no registered device. Nothing was accepted.",
    )
