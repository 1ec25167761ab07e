"""What leaves a topic's log before its time, and how its sender learns of it."""

import pytest

from router.model.errors import PushError
from router.model.hint import Retract
from router.model.ids import MessageId, partition_of_topic
from router.model.message import Message
from router.model.receipt import Event
from router.publish import Publication
from router.store import keys
from router.store.connection import Store
from tests.contract.test_router_topics import NEWS, TopicStages


@pytest.fixture
def stages(store: Store) -> TopicStages:
    return TopicStages(store)


async def test_a_collapse_key_replaces_within_the_log(stages: TopicStages) -> None:
    first = await stages.publish(collapse_key="k")
    other = await stages.publish(collapse_key="x")
    second = await stages.publish(collapse_key="k")
    assert await stages.log() == [other, second]
    assert await stages.events(first) == ["accepted", "collapsed"]
    status = await stages.messages.status(first)
    assert status is not None
    assert status.is_done(stages.clock.now_ms())


async def test_a_retracted_message_goes_to_nobody(stages: TopicStages) -> None:
    shard = await stages.shard()
    await stages.topics.follow(stages.project, NEWS, shard)
    message = await stages.publish()
    status = await stages.publisher.retract(stages.project, message)
    assert status is not None
    assert status.state is Event.CANCELLED
    assert await stages.log() == []
    _, hint = await stages.published(shard)
    assert isinstance(hint, Retract)
    again = await stages.publisher.retract(stages.project, message)
    assert again is not None
    assert await stages.events(message) == ["accepted", "cancelled"]
    unknown = MessageId(message[:-1] + ("a" if message[-1] != "a" else "b"))
    assert await stages.publisher.retract(stages.project, unknown) is None


async def test_a_message_that_expired_is_not_cancelled_though_the_log_holds_it(
    stages: TopicStages,
) -> None:
    message = await stages.publish(ttl_ms=1_000)
    stages.clock.ahead_ms = 1_001
    status = await stages.publisher.retract(stages.project, message)
    assert status is not None
    assert status.is_done(stages.clock.now_ms())
    assert await stages.events(message) == ["accepted"]
    assert await stages.log() == [message]


async def test_a_log_is_bounded_by_time_and_ends_with_its_last_message(
    stages: TopicStages,
) -> None:
    await stages.publish(ttl_ms=60_000)
    log = keys.topic_log(stages.project, NEWS)
    state = keys.topic_state(stages.project, NEWS)
    for key in (log, state):
        left = await stages.store.batch.call("PTTL", key)
        assert isinstance(left, int)
        assert 60_000 < left <= 120_000
    await stages.publish(ttl_ms=1_000)
    left = await stages.store.batch.call("PTTL", log)
    assert isinstance(left, int)
    assert left > 60_000


async def test_a_log_is_bounded_by_messages_and_read_in_pages(stages: TopicStages) -> None:
    publications = [
        Publication(NEWS, Message(token="", topic=NEWS, ttl_ms=60_000)) for _ in range(500)
    ]
    first = await stages.publish(ttl_ms=1)
    stages.clock.ahead_ms = 2
    second, *_ = await stages.publisher.publish_batch(stages.project, publications[:1])
    third, *_ = await stages.publisher.publish_batch(stages.project, publications)
    assert not isinstance(second, PushError)
    assert not isinstance(third, PushError)
    for _ in range(19):
        await stages.publisher.publish_batch(stages.project, publications)
    assert (await stages.topics.stats(stages.project, NEWS)).messages == 10_000
    # What expired before has ended by that; the others are told of.
    assert await stages.events(first) == ["accepted"]
    assert await stages.events(second) == ["accepted", "dropped"]
    assert await stages.events(third) == ["accepted"]
    status = await stages.messages.status(second)
    assert status is not None
    assert status.timeline[-1].detail == "log full"
    assert status.is_done(stages.clock.now_ms())
    outbox = keys.outbox(partition_of_topic(stages.project, NEWS))
    reply = await stages.store.batch.call("XREVRANGE", outbox, "+", "-", "COUNT", 3)
    assert isinstance(reply, list)
    assert any(f"|{second}|/topics/news|dropped|".encode() in entry[1][1] for entry in reply)
    page = await stages.topics.read(stages.project, NEWS, 0)
    assert (len(page.entries), page.full, page.upto) == (128, True, page.entries[-1].seq)
    (head,) = (await stages.topics.heads(stages.project, [NEWS])).values()
    last = await stages.topics.read(stages.project, NEWS, head - 1)
    assert (last.full, last.upto) == (False, head)
