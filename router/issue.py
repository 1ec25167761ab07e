"""Scheduled messages to topics, conditions and filters, when they are due.

Before: the workers' timers (`router.redelivery`). After: `router.store.topics` with its `issue`,
then `router.routing` with a hint for each shard that follows the log.
"""

import msgspec

from router.model.hint import Route
from router.model.ids import MessageId
from router.model.lane import LANE_OF
from router.model.message import Priority
from router.routing import Routing
from router.store.topics import Topics
from sdk_client.wire import decode


class Issuer:
    """Publishes what is due.

    Args:
        topics: the logs.
        routing: how shards learn of a message.
    """

    def __init__(self, topics: Topics, routing: Routing) -> None:
        self._topics = topics
        self._routing = routing

    async def issue(self, subject: str, now_ms: int) -> None:
        """Publish one message; a repeat changes nothing.

        Raises:
            StoreUnavailableError: the store is away; the timer stands.
        """
        issued = await self._topics.issue(MessageId(subject), now_ms)
        if issued is None:
            return
        # The store keeps no priority beside the frame.
        priority = Priority(str(decode(issued.hint.frame)["priority"]))
        hint = msgspec.structs.replace(issued.hint, lane=LANE_OF[priority])
        for shard in issued.shards:
            self._routing.hint(Route(shard, 0), hint)
