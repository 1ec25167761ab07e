"""From a message of a request to what the stages store: for a device, a topic, a user or a group.

Before: `gateway.api.fcm_v1`. After: `router.send`, `router.publish`, `router.cast`.
"""

from gateway.api.fcm_v1 import BatchItem, SendRequest
from gateway.api.request import digest
from router.cast import Casting
from router.model.audience import Audience
from router.model.ids import TopicName
from router.model.limits import Rate
from router.publish import Publication
from router.send import Item


def entry_of(item: BatchItem, request: SendRequest, batch_key: str, rate: Rate) -> Item:
    """Give a message of a batch the idempotency key of its own, or one made of the batch's."""
    key = request.idempotency_key or batch_key
    return Item(request.message, key, digest(memoryview(item.raw)) if key else "", rate)


def publication_of(item: Item, topic: TopicName, rate: Rate) -> Publication:
    """Take it to a topic's log, which takes so many."""
    return Publication(topic, item.message, item.idempotency_key, item.digest, rate)


def casting_of(item: Item, audience: Audience) -> Casting:
    """Take it to a user or a group, each of whose devices takes as many as the item says."""
    return Casting(audience, item.message, item.idempotency_key, item.digest, item.rate)
