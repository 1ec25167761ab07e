"""Who gets what is published to a topic.

Before: `gateway.api.resources.{topics,iid}`, `gateway.shard.topics`. After: `router.store.topics`,
then `router.routing` where a session must hear of a change that it did not make itself. A
subscriber gets what is published after it subscribed: its cursor begins at the log's end.
"""

import asyncio
from collections.abc import Callable, Sequence

from router.model.errors import ErrorCode, PushError
from router.model.hint import Resubscribe
from router.model.ids import DeviceId, ProjectId, TopicName, parse_token
from router.model.topic import MAX_TOPICS, SubscribeResult, TopicStats
from router.routing import Routing
from router.store.subscriptions import Changed, Subscriber
from router.store.topics import Topics

TokenOutcome = SubscribeResult | PushError
"""What became of one token of many; UNREGISTERED for what is no token, too."""


class Subscription:
    """Changes subscriptions.

    Args:
        topics: where they are stored.
        routing: how sessions hear of a change.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(self, topics: Topics, routing: Routing, now_ms: Callable[[], int]) -> None:
        self._topics = topics
        self._routing = routing
        self._now_ms = now_ms

    async def change_tokens(
        self, project: ProjectId, topic: TopicName, tokens: Sequence[str], *, subscribe: bool
    ) -> list[TokenOutcome]:
        """Subscribe or unsubscribe devices by their tokens, each for itself.

        Returns:
            For each token, in order, what became of it; an error where the store failed on it.

        Raises:
            StoreUnavailableError: the store is away.
        """
        cursor = (await self._topics.heads(project, [topic]))[topic] if subscribe else None
        outcomes: list[TokenOutcome] = [SubscribeResult.UNREGISTERED] * len(tokens)

        async def one(index: int, who: Subscriber) -> None:
            try:
                changed = await self._change(project, who, topic, cursor)
            except PushError as error:
                outcomes[index] = error
                return
            outcomes[index] = changed.result
            if changed.changed and changed.route is not None:
                self._routing.hint(changed.route, Resubscribe(who.device, changed.route.epoch))

        async with asyncio.TaskGroup() as tasks:
            for index, text in enumerate(tokens):
                if (token := parse_token(text)) is not None:
                    tasks.create_task(one(index, Subscriber(token.device, nonce=token.nonce)))
        return outcomes

    async def change_device(
        self,
        project: ProjectId,
        device: DeviceId,
        epoch: int,
        topics: Sequence[TopicName],
        *,
        subscribe: bool,
    ) -> None:
        """Change what a session's device subscribes to: all these topics, or none of them.

        Raises:
            PushError: ABORTED, the session is over; QUOTA_EXCEEDED, too many topics.
            StoreUnavailableError: the store is away; the change may have been made.
        """
        who, now_ms = Subscriber(device, epoch=epoch), self._now_ms()
        if subscribe:
            cursors = await self._topics.heads(project, topics)
            changed = await self._topics.subscribe(project, who, cursors, now_ms)
        else:
            changed = await self._topics.unsubscribe(project, who, topics, now_ms)
        if changed.result is SubscribeResult.TOO_MANY:
            text = f"A device subscribes to at most {MAX_TOPICS} topics; unsubscribe from some."
            raise PushError(ErrorCode.QUOTA_EXCEEDED, text)
        if changed.result is not SubscribeResult.DONE:
            raise PushError(ErrorCode.ABORTED, "The session is over; connect again.")

    async def stats(self, project: ProjectId, topic: TopicName) -> TopicStats:
        """Count a topic's subscribers and messages.

        Raises:
            StoreUnavailableError: the store is away.
        """
        return await self._topics.stats(project, topic)

    async def _change(
        self, project: ProjectId, who: Subscriber, topic: TopicName, cursor: int | None
    ) -> Changed:
        if cursor is None:
            return await self._topics.unsubscribe(project, who, [topic], self._now_ms())
        return await self._topics.subscribe(project, who, {topic: cursor}, self._now_ms())
