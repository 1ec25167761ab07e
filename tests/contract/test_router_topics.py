"""Topics on a real store: published once, subscribed, followed, counted."""

import os

import pytest

from router.model.errors import ErrorCode, PushError
from router.model.hint import Publish, Resubscribe
from router.model.ids import MessageId, TopicName, is_topic_message
from router.model.message import Message, ReceiptMode
from router.model.receipt import Event
from router.model.topic import MAX_TOPICS, DeviceEvent, SubscribeResult
from router.publish import Publication, Publisher
from router.registration import Registered
from router.store import keys
from router.store.connection import Store
from router.store.outbox import Outbox
from router.store.subscriptions import Subscriber
from router.store.topics import Cursor, Topics
from router.subscription import Subscription
from tests.contract.router_stages import Stages

NEWS = TopicName("news")


class TopicStages(Stages):
    """The stages with those of topics."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        now_ms = self.clock.now_ms
        self.topics = Topics(store)
        self.withdrawn: list[MessageId] = []
        self.publisher = Publisher(
            self.topics,
            self.routing,
            now_ms,
            os.urandom,
            lambda _, message: self.withdrawn.append(message),
        )
        self.subscription = Subscription(self.topics, self.routing, now_ms)

    async def publish(self, topic: TopicName = NEWS, **fields: object) -> MessageId:
        return await self.publisher.publish(self.project, self.publication(topic, **fields))

    def publication(self, topic: TopicName = NEWS, **fields: object) -> Publication:
        key = str(fields.pop("idempotency_key", ""))
        digest = str(fields.pop("digest", ""))
        values: dict[str, object] = {
            "ttl_ms": 60_000,
            "receipts": ReceiptMode.AGGREGATE,
            "data": {"k": "v"},
            **fields,
        }
        message = Message(token="", topic=topic, **values)  # type: ignore[arg-type]
        return Publication(topic, message, key, digest)

    async def log(self, after: int = 0) -> list[MessageId]:
        page = await self.topics.read(self.project, NEWS, after)
        return [entry.message for entry in page.entries]

    async def subscribe(self, *devices: Registered) -> list[object]:
        tokens = [device.token for device in devices]
        return list(
            await self.subscription.change_tokens(self.project, NEWS, tokens, subscribe=True)
        )


@pytest.fixture
def stages(store: Store) -> TopicStages:
    return TopicStages(store)


async def test_a_message_is_stored_once_and_hinted_to_each_shard(stages: TopicStages) -> None:
    shards = [await stages.shard(), await stages.shard()]
    heads = [await stages.topics.follow(stages.project, NEWS, shard) for shard in shards]
    assert heads == [0, 0]
    first, second = await stages.publish(), await stages.publish()
    assert is_topic_message(first)
    assert await stages.log() == [first, second]
    hints = [await stages.published(shard) for shard in shards]
    assert hints[0] == hints[1]
    one, two = hints[0]
    assert isinstance(one, Publish)
    assert isinstance(two, Publish)
    assert (one.message, one.previous) == (first, 0)
    assert (two.message, two.previous) == (second, one.seq)
    assert two.seq > one.seq > 1_600_000_000_000
    status = await stages.messages.status(first)
    assert status is not None
    assert (status.target, status.topic, status.counts) == ("topic", "news", {})
    assert await stages.events(first) == ["accepted"]
    assert await stages.topics.follow(stages.project, NEWS, shards[0]) == two.seq


async def test_a_shard_that_is_silent_for_long_is_forgotten(stages: TopicStages) -> None:
    shard = await stages.shard()
    await stages.topics.follow(stages.project, NEWS, shard)
    key = keys.topic_shards(stages.project, NEWS)
    await stages.store.batch.call("HSET", key, shard, 1)
    await stages.publish()
    assert await stages.published(shard) == []
    assert await stages.store.batch.call("EXISTS", key) == 0
    await stages.topics.follow(stages.project, NEWS, shard)
    await stages.topics.unfollow(stages.project, NEWS, shard)
    await stages.publish()
    assert await stages.published(shard) == []


async def test_a_ttl_of_zero_reaches_shards_and_not_the_log(stages: TopicStages) -> None:
    shard = await stages.shard()
    await stages.topics.follow(stages.project, NEWS, shard)
    message = await stages.publish(ttl_ms=0)
    (hint,) = await stages.published(shard)
    assert isinstance(hint, Publish)
    assert (hint.seq, hint.message) == (0, message)
    assert await stages.log() == []
    status = await stages.messages.status(message)
    assert status is not None
    assert status.is_done(stages.clock.now_ms())


async def test_an_idempotency_key_answers_the_first_message(stages: TopicStages) -> None:
    first = await stages.publish(idempotency_key="k", digest="d")
    assert await stages.publish(idempotency_key="k", digest="d") == first
    assert await stages.log() == [first]
    with pytest.raises(PushError) as refusal:
        await stages.publish(idempotency_key="k", digest="e")
    assert refusal.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED


async def test_a_publish_that_is_repeated_is_stored_once(stages: TopicStages) -> None:
    shard = await stages.shard()
    await stages.topics.follow(stages.project, NEWS, shard)
    await stages.publish()
    message = Message(token="", topic=NEWS, ttl_ms=60_000)
    envelope = stages.publisher._envelope(stages.project, Publication(NEWS, message))
    replies = [await stages.topics.begin_publish(envelope) for _ in range(2)]
    one, again = [stages.topics.published(envelope, reply) for reply in replies]
    assert (again.seq, again.previous, again.shards) == (one.seq, one.seq - 1, one.shards)
    assert len(await stages.log()) == 2


async def test_a_batch_keeps_the_order_and_refuses_each_for_itself(stages: TopicStages) -> None:
    def publication(**fields: object) -> Publication:
        message = Message(token="", topic=NEWS, ttl_ms=60_000, **fields)  # type: ignore[arg-type]
        return Publication(NEWS, message)

    too_late = stages.clock.now_ms() + 29 * 24 * 3_600_000
    outcomes = await stages.publisher.publish_batch(
        stages.project,
        [
            publication(),
            publication(data={"a": "x" * 5_000}),
            publication(send_at_ms=too_late),
            publication(data={"a": "\ud800"}),
            publication(),
        ],
    )
    accepted = [one for one in outcomes if not isinstance(one, PushError)]
    assert [isinstance(one, PushError) for one in outcomes] == [False, True, True, True, False]
    assert await stages.log() == accepted


async def test_a_subscriber_begins_where_the_log_ends(stages: TopicStages) -> None:
    device = await stages.register()
    await stages.publish()
    assert await stages.subscribe(device) == [SubscribeResult.DONE]
    after = await stages.publish()
    attached = await stages.attach(device, await stages.shard())
    ((topic, cursor),) = attached.standing.topics
    assert topic == NEWS
    assert await stages.log(cursor) == [after]
    assert (await stages.subscription.stats(stages.project, NEWS)).subscribers == 1


async def test_a_connected_device_is_told_until_it_has_read(stages: TopicStages) -> None:
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    await stages.subscribe(device)
    await stages.subscribe(device)  # nothing changes, so nobody is told
    hint = Resubscribe(device.device_id, attached.epoch)
    assert await stages.inbox(shard) == [hint]
    route = await stages.mailboxes.remind(device.device_id, stages.clock.now_ms())
    assert route is not None
    timers = keys.mailbox(device.device_id).partition("d:")[0] + "timers"
    member = f"topics:{device.device_id}"
    assert await stages.store.batch.call("ZSCORE", timers, member) is not None
    listed = await stages.topics.subscriptions(device.device_id, attached.epoch)
    assert listed is not None
    assert listed.topics == ((NEWS, 0),)
    assert await stages.store.batch.call("ZSCORE", timers, member) is None
    assert await stages.topics.subscriptions(device.device_id, attached.epoch - 1) is None
    await stages.mailboxes.detach(device.device_id, attached.epoch, stages.clock.now_ms())
    assert await stages.mailboxes.remind(device.device_id, stages.clock.now_ms()) is None


async def test_who_never_reads_is_reminded_for_an_hour_and_again_after_the_next_change(
    stages: TopicStages,
) -> None:
    device = await stages.register()
    await stages.attach(device, await stages.shard())
    await stages.subscribe(device)
    timers = keys.mailbox(device.device_id).partition("d:")[0] + "timers"
    member, now_ms = f"topics:{device.device_id}", stages.clock.now_ms()

    async def remind(after_ms: int) -> bool:
        return await stages.mailboxes.remind(device.device_id, now_ms + after_ms) is not None

    assert await remind(0)
    assert await remind(3_599_999)
    assert not await remind(3_600_000)
    assert await stages.store.batch.call("ZSCORE", timers, member) is None
    await stages.subscription.change_tokens(stages.project, NEWS, [device.token], subscribe=False)
    assert await stages.store.batch.call("ZSCORE", timers, member) is not None
    assert await remind(3_600_000)


async def test_tokens_are_refused_each_for_itself(stages: TopicStages, store: Store) -> None:
    other = TopicStages(store)
    device, foreign, rotated = (
        await stages.register(),
        await other.register(),
        await stages.register(),
    )
    await stages.registration.rotate_token(stages.project, rotated.device_id)
    tokens = [device.token, foreign.token, rotated.token, "nonsense"]
    outcomes = await stages.subscription.change_tokens(stages.project, NEWS, tokens, subscribe=True)
    assert outcomes == [
        SubscribeResult.DONE,
        SubscribeResult.SENDER_ID_MISMATCH,
        SubscribeResult.UNREGISTERED,
        SubscribeResult.UNREGISTERED,
    ]
    ended = await stages.subscription.change_tokens(
        stages.project, NEWS, tokens[:1], subscribe=False
    )
    assert ended == [SubscribeResult.DONE]
    assert (await stages.subscription.stats(stages.project, NEWS)).subscribers == 0


@pytest.mark.slow
async def test_a_device_has_two_thousand_topics_and_no_more(stages: TopicStages) -> None:
    device = await stages.register()
    attached = await stages.attach(device, await stages.shard())
    names = [TopicName(f"t{number}") for number in range(MAX_TOPICS + 1)]

    async def change(topics: list[TopicName], epoch: int, *, subscribe: bool) -> None:
        await stages.subscription.change_device(
            stages.project, device.device_id, epoch, topics, subscribe=subscribe
        )

    for start in range(0, MAX_TOPICS, 100):
        await change(names[start : start + 100], attached.epoch, subscribe=True)
    with pytest.raises(PushError) as refusal:
        await change(names[-2:], attached.epoch, subscribe=True)
    assert refusal.value.code is ErrorCode.QUOTA_EXCEEDED
    with pytest.raises(PushError) as over:
        await change(names[:1], attached.epoch - 1, subscribe=False)
    assert over.value.code is ErrorCode.ABORTED
    await change(names[:1], attached.epoch, subscribe=False)
    await change(names[-1:], attached.epoch, subscribe=True)
    again = await stages.attach(device, await stages.shard())
    assert len(again.standing.topics) == MAX_TOPICS
    await stages.registration.unregister(stages.project, device.device_id)
    assert (await stages.topics.stats(stages.project, names[5])).subscribers == 0


async def test_only_the_newest_session_moves_a_cursor_and_only_forward(
    stages: TopicStages,
) -> None:
    devices = [await stages.register() for _ in range(3)]
    await stages.subscribe(*devices[:2])
    shard = await stages.shard()
    epochs = [(await stages.attach(device, shard)).epoch for device in devices]

    async def save(index: int, seq: int, epoch: int = 0) -> None:
        one = Cursor(devices[index].device_id, epoch or epochs[index], NEWS, seq)
        await stages.topics.save_cursors([one])

    await save(0, 7)
    await save(0, 5)
    await save(0, 9, epochs[0] - 1)
    await save(2, 7)  # it does not subscribe
    found = [
        await stages.topics.subscriptions(device.device_id, epoch)
        for device, epoch in zip(devices, epochs, strict=True)
    ]
    assert [one and one.topics for one in found] == [((NEWS, 7),), ((NEWS, 0),), ()]


async def test_numbers_add_up_and_devices_count_once(stages: TopicStages) -> None:
    aggregate = await stages.publish()
    for _ in range(2):
        await stages.topics.count(aggregate, stages.project, {Event.SENT: 3, Event.DELIVERED: 2}, 5)
    status = await stages.messages.status(aggregate)
    assert status is not None
    assert status.counts == {"sent": 6, "delivered": 4}
    single = await stages.publish(receipts=ReceiptMode.DEVICE)
    told = [
        DeviceEvent("d" * 16, Event.SENT, 5),
        DeviceEvent("d" * 16, Event.DELIVERED, 6),
        DeviceEvent("e" * 16, Event.SENT, 5),
    ]
    for _ in range(2):
        await stages.topics.count_devices(single, stages.project, told)
    status = await stages.messages.status(single)
    assert status is not None
    assert (status.counts, status.per_device) == ({"sent": 2, "delivered": 1}, True)
    assert await stages.messages.receivers(single) == {
        "d" * 16: Event.DELIVERED,
        "e" * 16: Event.SENT,
    }


async def test_receipts_of_devices_leave_through_the_outbox(stages: TopicStages) -> None:
    message = await stages.publish(receipts=ReceiptMode.DEVICE)
    told = DeviceEvent("d" * 16, Event.DELIVERED, stages.clock.now_ms())
    await stages.topics.count_devices(message, stages.project, [told])
    partition = keys.message(message)[1:3]
    reply = await stages.store.batch.call("XREVRANGE", f"{{{partition}}}:outbox", "+", "-")
    assert isinstance(reply, list)
    lines = [entry[1][1].decode() for entry in reply if message.encode() in entry[1][1]]
    assert [line.split("|")[2:4] for line in lines] == [
        ["d" * 16, "delivered"],
        ["/topics/news", "accepted"],
    ]
    assert isinstance(stages.outbox, Outbox)


@pytest.mark.slow
async def test_a_subscription_that_stands_keeps_its_cursor(stages: TopicStages) -> None:
    device = await stages.register()
    await stages.subscribe(device)
    await stages.publish()
    await stages.subscribe(device)
    who = Subscriber(device.device_id, nonce=device.token.rpartition(".")[2])
    changed = await stages.topics.unsubscribe(stages.project, who, [NEWS], 1)
    assert changed.changed
    assert not (await stages.topics.unsubscribe(stages.project, who, [NEWS], 1)).changed
