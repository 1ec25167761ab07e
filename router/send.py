"""From a valid message to a stored one.

Before: `gateway.api.resources.messages`. After: `router.store.mailbox` with its `enqueue`, then
`router.routing` where the device is connected. The device frame is encoded here
(`router.policy.intake`), once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog

from router.bridge_terms import NO_TERMS, BridgeTerms
from router.model.errors import (
    ErrorCode,
    PushError,
    QuotaExceededError,
    StoreOutcomeUnknownError,
    StoreUnavailableError,
)
from router.model.hint import Deliver
from router.model.ids import (
    ENTROPY_BYTES,
    MessageId,
    ProjectId,
    is_cast,
    is_topic_message,
    new_message_id,
    new_quiet_message_id,
    parse_token,
)
from router.model.lane import LANE_OF, slowest
from router.model.limits import UNLIMITED, Limit, Rate
from router.model.mailbox import Enqueued, EnqueueResult, Envelope
from router.model.message import Message, ReceiptMode
from router.model.status import MessageStatus
from router.policy.intake import take_in
from router.policy.rates import SECOND_US
from router.policy.retry import Backoff
from router.routing import Routing
from router.store.link import Reply
from router.store.mailbox import Mailboxes
from router.store.pipelined import pipelined
from router.telemetry.metrics import Metrics

MAX_WITHDRAWALS: Final = 10_000
"""Messages of unknown outcome that are remembered while the store is away."""
_RETRY: Final = Backoff(base_s=0.05, cap_s=1.0)

Retract = Callable[[ProjectId, MessageId], Awaitable[MessageStatus | None]]

_log = structlog.stdlib.get_logger(__name__)


class Item(msgspec.Struct, frozen=True, gc=False):
    """One message of a batch, with the idempotency key and digest of its own."""

    message: Message
    idempotency_key: str = ""
    digest: str = ""
    rate: Rate = UNLIMITED
    """What its device takes."""


class Sender:
    """Stores messages for devices and hints to their shards.

    Args:
        mailboxes: where messages wait.
        routing: how shards learn of them.
        metrics: counts withdrawals.
        now_ms: the clock, epoch milliseconds.
        entropy: gives so many random bytes.
        max_withdrawals: messages of unknown outcome that are remembered.
        retract: takes back a message to a topic (`router.publish`), a user or a group
            (`router.cast`).
        terms: on which a bridge may carry a message; None: none carries any.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the stores and stages beside it, each once
        self,
        mailboxes: Mailboxes,
        routing: Routing,
        metrics: Metrics,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
        max_withdrawals: int = MAX_WITHDRAWALS,
        retract: Retract | None = None,
        terms: BridgeTerms | None = None,
    ) -> None:
        self._mailboxes = mailboxes
        self._routing = routing
        self._metrics = metrics
        self._now_ms = now_ms
        self._entropy = entropy
        self._max_withdrawals = max_withdrawals
        self._retract = retract
        self._terms = terms
        self._doubtful: deque[tuple[ProjectId, MessageId]] = deque()
        self._doubt = asyncio.Event()

    async def send(
        self,
        project: ProjectId,
        message: Message,
        *,
        idempotency_key: str = "",
        digest: str = "",
    ) -> MessageId:
        """Store one message; once this returns it is accepted.

        Args:
            project: who sends.
            message: parsed and valid.
            idempotency_key: a repeat with the same key gives the first one's id.
            digest: SHA-256 of the request, to notice another request under the same key.

        Raises:
            PushError: INVALID_ARGUMENT (payload above 4096 bytes, `send_at` too far ahead),
                UNREGISTERED, SENDER_ID_MISMATCH, IDEMPOTENCY_KEY_REUSED.
            StoreUnavailableError: the store is away; nothing was accepted.
        """
        return await self.send_item(project, Item(message, idempotency_key, digest))

    async def send_item(self, project: ProjectId, item: Item) -> MessageId:
        """Store one message, as `send` does.

        Raises:
            PushError: as `send`; QUOTA_EXCEEDED, its device gets too many.
            StoreUnavailableError: the store is away; nothing was accepted.
        """
        envelope = self._envelope(project, item)
        urgent = LANE_OF[item.message.priority].urgent
        reply = self._mailboxes.begin_enqueue(envelope, urgent=urgent)
        return await self._accepted(envelope, reply)

    async def send_batch(
        self, project: ProjectId, items: Sequence[Item]
    ) -> list[MessageId | PushError]:
        """Store several messages through one pipeline, in their order.

        They are as urgent as the least urgent of them: none overtakes those before it.

        Returns:
            For each item, in order, its id or its own error.
        """
        urgent = slowest(item.message.priority for item in items).urgent

        def begin(item: Item) -> tuple[Envelope, asyncio.Future[Reply]]:
            envelope = self._envelope(project, item)
            return envelope, self._mailboxes.begin_enqueue(envelope, urgent=urgent)

        return await pipelined(items, begin, self._accepted)

    async def _accepted(self, envelope: Envelope, reply: asyncio.Future[Reply]) -> MessageId:
        try:
            enqueued = self._mailboxes.enqueued(envelope, await reply)
        except StoreOutcomeUnknownError:
            self._withdraw(envelope)
            raise
        return self._settle(envelope, enqueued)

    async def cancel(self, project: ProjectId, message: MessageId) -> MessageStatus | None:
        """Take back what is still pending of a message.

        Returns:
            Its status after that, or None where the project has no such message.

        Raises:
            StoreUnavailableError: the store is away.
        """
        if is_topic_message(message) or is_cast(message):
            return None if self._retract is None else await self._retract(project, message)
        return await self._mailboxes.cancel(message, project, self._now_ms())

    async def run(self) -> None:
        """Withdraw messages of unknown outcome as soon as the store answers; until cancelled."""
        failures = 0
        while True:
            await self._doubt.wait()
            project, message = self._doubtful[0]
            try:
                await self.cancel(project, message)
            except StoreUnavailableError:
                failures += 1
                self._metrics.withdrawals.labels("retried").inc()
                await asyncio.sleep(_RETRY.ceiling_s(failures))
                continue
            except PushError:
                self._metrics.withdrawals.labels("failed").inc()
                _log.exception("message.withdraw_failed", message=message)
            else:
                self._metrics.withdrawals.labels("done").inc()
                _log.info("message.withdrawn", message=message)
            failures = 0
            self._forget(message)

    def _envelope(self, project: ProjectId, item: Item) -> Envelope:
        """Fix everything that is stored: id, times, frame."""
        message = item.message
        token = parse_token(message.token)
        if token is None:
            raise _unregistered()
        now_ms = self._now_ms()
        new_id = new_message_id if message.receipts is ReceiptMode.DEVICE else new_quiet_message_id
        identifier = new_id(token.partition, now_ms, self._entropy(ENTROPY_BYTES))
        taken = take_in(message, identifier, now_ms)
        terms = (
            NO_TERMS if self._terms is None else self._terms.of(project, message, identifier, taken)
        )
        return Envelope(
            project=project,
            partition=token.partition,
            device=token.device,
            nonce=token.nonce,
            message=identifier,
            frame=taken.frame,
            now_ms=now_ms,
            expires_ms=taken.expires_ms,
            priority=message.priority,
            collapse_key=message.collapse_key,
            send_at_ms=taken.send_at_ms,
            idempotency_key=item.idempotency_key,
            idempotency_digest=item.digest,
            label=message.label,
            rate=item.rate,
            bridge=terms.policy,
            part=terms.part,
            unfit=terms.unfit,
        )

    def _settle(self, envelope: Envelope, enqueued: Enqueued) -> MessageId:
        """Turn what the store says into an id or an error, and hint to the device's shard."""
        if enqueued.result is EnqueueResult.ACCEPTED:
            route = enqueued.route
            if route is not None and not envelope.send_at_ms:
                hint = Deliver(
                    envelope.device,
                    route.epoch,
                    enqueued.seq,
                    enqueued.message,
                    envelope.expires_ms,
                    envelope.frame,
                    LANE_OF[envelope.priority],
                )
                self._routing.hint(route, hint)
            return enqueued.message
        if enqueued.result is EnqueueResult.REPEATED:
            return enqueued.message
        if enqueued.result is EnqueueResult.SENDER_ID_MISMATCH:
            raise PushError(
                ErrorCode.SENDER_ID_MISMATCH, "The token belongs to another project: use its key."
            )
        if enqueued.result is EnqueueResult.UNFIT and self._terms is not None:
            raise self._terms.refusal(enqueued.bridge, envelope.frame, envelope.part)
        if enqueued.result is EnqueueResult.THROTTLED:
            subject, wait_s = f"device:{envelope.device}", enqueued.wait_us / SECOND_US
            raise QuotaExceededError(Limit.DEVICE, subject, envelope.rate, wait_s)
        if enqueued.result is EnqueueResult.KEY_REUSED:
            raise PushError(
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                "The idempotency key was used for another request; take a new key.",
            )
        raise _unregistered()

    def _withdraw(self, envelope: Envelope) -> None:
        """Remember a message that may have been stored although its sender hears the opposite.

        One with an idempotency key stays: its sender repeats the request and gets this very id, so
        taking it back could lose a message that was answered with success.
        """
        if not envelope.idempotency_key:
            self.withdraw(envelope.project, envelope.message)

    def withdraw(self, project: ProjectId, message: MessageId) -> None:
        """Take a message back as soon as the store answers."""
        if len(self._doubtful) >= self._max_withdrawals:
            self._doubtful.popleft()
            self._metrics.withdrawals.labels("dropped").inc()
        self._doubtful.append((project, message))
        self._doubt.set()

    def _forget(self, message: MessageId) -> None:
        """Drop the head, unless the bound dropped it while the store was asked."""
        if self._doubtful and self._doubtful[0][1] == message:
            self._doubtful.popleft()
        if not self._doubtful:
            self._doubt.clear()


def _unregistered() -> PushError:
    return PushError(
        ErrorCode.UNREGISTERED,
        "No device has this token: it was rotated or the device unregistered. Remove it.",
    )
