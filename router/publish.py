"""From a valid message to many to its log: stored once, however many get it.

Before: `gateway.api.resources.messages`. After: `router.store.topics` with its `publish`, then
`router.routing` with one hint for each shard that has a subscriber. Nothing here is done per
subscriber. The device frame is encoded here, once.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from router.bridge_terms import NO_TERMS, BridgeTerms
from router.model.errors import (
    ErrorCode,
    PushError,
    QuotaExceededError,
    StoreOutcomeUnknownError,
)
from router.model.hint import Publish, Retract, Route, TopicHint
from router.model.ids import (
    ENTROPY_BYTES,
    MessageId,
    ProjectId,
    ShardId,
    TopicName,
    new_topic_message_id,
    partition_of_topic,
)
from router.model.lane import LANE_OF, slowest
from router.model.limits import UNLIMITED, Limit, Rate
from router.model.message import Message
from router.model.selection import encode_selection
from router.model.status import MessageStatus
from router.model.topic import Published, PublishResult, TopicEnvelope
from router.policy.intake import take_in
from router.policy.rates import SECOND_US
from router.routing import Routing
from router.store.link import Reply
from router.store.pipelined import pipelined
from router.store.topics import Topics


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One message to a log, with the idempotency key and digest of its own."""

    topic: TopicName
    message: Message
    idempotency_key: str = ""
    digest: str = ""
    rate: Rate = UNLIMITED
    """What its topic takes."""


class Publisher:
    """Publishes to topics and hints to the shards that follow them.

    Args:
        topics: the logs.
        routing: how shards learn of a message.
        now_ms: the clock, epoch milliseconds.
        entropy: gives so many random bytes.
        withdraw: takes back, later, what may have been stored although its sender heard that
            nothing was (`router.send`).
        terms: on which bridges may carry a message; None: none carries any.
    """

    def __init__(
        self,
        topics: Topics,
        routing: Routing,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
        withdraw: Callable[[ProjectId, MessageId], None],
        terms: BridgeTerms | None = None,
    ) -> None:
        self._topics = topics
        self._routing = routing
        self._now_ms = now_ms
        self._entropy = entropy
        self._withdraw = withdraw
        self._terms = terms

    async def publish(self, project: ProjectId, publication: Publication) -> MessageId:
        """Store one message; once this returns it is accepted.

        Raises:
            PushError: INVALID_ARGUMENT (payload above 4096 bytes, `send_at` too far ahead),
                IDEMPOTENCY_KEY_REUSED, QUOTA_EXCEEDED.
            StoreUnavailableError: the store is away; nothing was accepted.
        """
        envelope = self._envelope(project, publication)
        reply = self._topics.begin_publish(envelope, urgent=envelope.lane.urgent)
        return await self._accepted(envelope, reply)

    async def publish_batch(
        self, project: ProjectId, publications: Sequence[Publication]
    ) -> list[MessageId | PushError]:
        """Store several messages through one pipeline, those of one topic in order.

        They are as urgent as the least urgent of them: none overtakes those before it.

        Returns:
            For each, in order, its id or its own error.
        """
        urgent = slowest(one.message.priority for one in publications).urgent

        def begin(publication: Publication) -> tuple[TopicEnvelope, asyncio.Future[Reply]]:
            envelope = self._envelope(project, publication)
            return envelope, self._topics.begin_publish(envelope, urgent=urgent)

        return await pipelined(publications, begin, self._accepted)

    async def retract(self, project: ProjectId, message: MessageId) -> MessageStatus | None:
        """Take a message back from those who did not get it yet.

        Returns:
            Its status after that, or None where the project has no such message.

        Raises:
            StoreUnavailableError: the store is away.
        """
        found = await self._topics.retract(message, project, self._now_ms())
        if found is None:
            return None
        if found.seq:
            self._hint(found.shards, Retract(project, found.topic, found.seq))
        return found.status

    async def _accepted(self, envelope: TopicEnvelope, reply: asyncio.Future[Reply]) -> MessageId:
        try:
            published = self._topics.published(envelope, await reply)
        except StoreOutcomeUnknownError:
            # With a key its sender repeats the request and gets this very id.
            if not envelope.idempotency_key:
                self._withdraw(envelope.project, envelope.message)
            raise
        return self._settle(envelope, published)

    def _settle(self, envelope: TopicEnvelope, published: Published) -> MessageId:
        if published.result is PublishResult.KEY_REUSED:
            raise PushError(
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                "The idempotency key was used for another request; take a new key.",
            )
        if published.result is PublishResult.THROTTLED:
            subject, wait_s = f"topic:{envelope.topic}", published.wait_us / SECOND_US
            raise QuotaExceededError(Limit.TOPIC, subject, envelope.rate, wait_s)
        if published.result is PublishResult.ACCEPTED and not envelope.send_at_ms:
            hint = Publish(
                envelope.project,
                envelope.topic,
                published.seq,
                published.previous,
                envelope.message,
                envelope.expires_ms,
                envelope.receipts,
                envelope.collapse_key,
                envelope.frame,
                envelope.lane,
                envelope.selection,
            )
            self._hint(published.shards, hint)
        return published.message

    def _hint(self, shards: Iterable[ShardId], hint: TopicHint) -> None:
        for shard in shards:
            self._routing.hint(Route(shard, 0), hint)

    def _envelope(self, project: ProjectId, publication: Publication) -> TopicEnvelope:
        """Fix everything that is stored: id, times, frame."""
        message, topic, now_ms = publication.message, publication.topic, self._now_ms()
        identifier = new_topic_message_id(
            partition_of_topic(project, topic), now_ms, self._entropy(ENTROPY_BYTES)
        )
        taken = take_in(message, identifier, now_ms)
        terms = NO_TERMS
        if self._terms is not None:
            terms = self._terms.of_many(project, message, identifier, taken)
        return TopicEnvelope(
            project=project,
            topic=topic,
            message=identifier,
            frame=taken.frame,
            now_ms=now_ms,
            expires_ms=taken.expires_ms,
            receipts=message.receipts,
            collapse_key=message.collapse_key,
            lane=LANE_OF[message.priority],
            selection=encode_selection(message.selection),
            send_at_ms=taken.send_at_ms,
            idempotency_key=publication.idempotency_key,
            idempotency_digest=publication.digest,
            label=message.label,
            rate=publication.rate,
            bridge=terms.policy,
            part=terms.part,
        )
