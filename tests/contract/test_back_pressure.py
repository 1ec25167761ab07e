"""A shard that is behind is spared the messages to topics; nothing of them is lost."""

import contextlib

from router.model.hint import Advance, AnyHint, Publish, Route, Wake
from router.model.ids import DeviceId, TopicName
from router.model.lane import Lane
from router.model.message import Priority
from router.routing import BEHIND, LOOK_EVERY
from router.store.connection import Store
from tests.contract.test_router_topics import NEWS, TopicStages
from tests.contract.test_shard_topics import Shard, shard_of, subscribed
from tests.support.waiting import eventually


async def fall_behind(shard: Shard) -> None:
    """Have so much wait for a shard that who sends to it notices."""
    inboxes, name = shard.stages.inboxes, shard.registry.shard
    wake = Wake(DeviceId("n" * 16), 1)
    for _ in range(BEHIND):
        await inboxes.append(name, [wake])
    routing = shard.stages.routing
    for _ in range(LOOK_EVERY):
        routing.hint(Route(name, 1), wake)
    await routing.flush()
    assert routing._behind


async def test_a_shard_that_is_behind_is_told_once_where_a_log_ends(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        await fall_behind(shard)
        sent = [await shard.stages.publish() for _ in range(3)]
        hints = await shard.stages.published(shard.registry.shard)
        assert hints
        assert all(isinstance(hint, Advance) for hint in hints)
        await shard.hear()
        await eventually(lambda: peer.got == sent)
        assert shard.stages.count("pushwire_hints_dropped_total", reason="behind") == 3


async def test_another_lane_is_not_behind_with_it(store: Store) -> None:
    async with shard_of(store) as shard:
        await subscribed(shard, 1)
        await fall_behind(shard)
        routing = shard.stages.routing
        assert routing._behind == {(shard.registry.shard, Lane.NORMAL)}
        await shard.stages.publish(priority=Priority.CRITICAL)
        await routing.flush()
        (hint,) = await _first(shard, Lane.CRITICAL)
        assert isinstance(hint, Publish)


async def _first(shard: Shard, lane: Lane) -> list[AnyHint]:
    """Read the first entry of a lane."""
    async with contextlib.aclosing(shard.stages.inboxes.reader(shard.registry.shard, lane)) as read:
        return (await anext(read))[1]


async def test_a_shard_that_caught_up_gets_messages_again(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        await fall_behind(shard)
        await shard.lose()
        first = await shard.stages.publish()
        await shard.hear()
        assert not shard.stages.routing._behind
        second = await shard.stages.publish()
        hints = await shard.stages.published(shard.registry.shard)
        assert [hint.message for hint in hints if isinstance(hint, Publish)] == [second]
        await shard.hear()
        await eventually(lambda: peer.got == [first, second])


async def test_messages_beyond_the_buffer_become_one_look_at_each_log(store: Store) -> None:
    stages = TopicStages(store)
    shard = await stages.shard()
    sports = TopicName("sports")
    for topic in (NEWS, sports):
        await stages.topics.follow(stages.project, topic, shard)
    stages.routing._limit = 2
    # None of these waits for the one before, so all are there before the first leaves.
    sent = await stages.publisher.publish_batch(
        stages.project, [stages.publication(topic) for topic in (NEWS, sports) * 3]
    )
    hints = await stages.published(shard)
    assert [hint.message for hint in hints if isinstance(hint, Publish)] == sent[:2]
    ahead = [hint for hint in hints if isinstance(hint, Advance)]
    assert {hint.topic for hint in ahead} == {NEWS, sports}
    for hint in ahead:
        assert await stages.topics.follow(stages.project, hint.topic, shard) == hint.seq
