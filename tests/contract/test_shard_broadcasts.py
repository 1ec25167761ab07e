"""Conditions and filters on a real store: who gets a message, and what it costs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.shard.turns import SLICE
from router.model.hint import Resubscribe
from router.model.ids import BROADCAST, MessageId, TopicName
from router.model.message import Message, ReceiptMode
from router.model.receipt import Event
from router.model.selection import Filter, Profile, Selection
from router.policy.conditions import parse_condition
from router.publish import Publication
from router.registration import DeviceChanges, DeviceSpec, Registered
from router.store import keys
from router.store.connection import Store
from tests.contract.test_router_topics import NEWS, TopicStages
from tests.contract.test_shard_topics import Peer, Shard
from tests.support.waiting import eventually

SPORT = TopicName("sport")
NEWS_AND_SPORT = Selection(parse_condition("'news' in topics && 'sport' in topics").text)
NOT_NEWS = Selection(parse_condition("!('news' in topics)").text)


class Broadcasts(Shard):
    """A shard, and what is published to its project."""

    async def device(self, *topics: TopicName, **spec: str | dict[str, str]) -> Registered:
        fields = {"platform": "python", **spec}
        device = await self.stages.registration.register(
            self.stages.project,
            DeviceSpec(**fields),  # type: ignore[arg-type]
        )
        for topic in topics:
            await self.subscribe(device, topic)
        return device

    async def subscribe(self, device: Registered, topic: TopicName) -> None:
        await self.stages.subscription.change_tokens(
            self.stages.project, topic, [device.token], subscribe=True
        )

    async def join(self, device: Registered) -> Peer:
        """Connect a device to a shard that follows the project."""
        peer = await self.connect(device)
        key = (self.stages.project, BROADCAST)
        await eventually(lambda: key in self.index._topics and self.index._topics[key].followed)
        return peer

    async def publish(
        self, selection: Selection, topic: TopicName | None = None, **fields: object
    ) -> MessageId:
        values: dict[str, object] = {"ttl_ms": 60_000, "receipts": ReceiptMode.AGGREGATE, **fields}
        message = Message(token="", topic=topic, selection=selection, **values)  # type: ignore[arg-type]
        assert message.log is not None
        publication = Publication(message.log, message)
        return await self.stages.publisher.publish(self.stages.project, publication)

    async def counts(self, message: MessageId) -> dict[str, int]:
        await self.ledger.flush()
        status = await self.stages.messages.status(message)
        assert status is not None
        return status.counts

    async def stored(self, device: Registered) -> object:
        """The broadcast cursor in the device's mailbox."""
        return await self.stages.store.batch.call("HGET", keys.mailbox(device.device_id), "bc")


@contextlib.asynccontextmanager
async def shard_of(store: Store) -> AsyncIterator[Broadcasts]:
    stages = TopicStages(store)
    name = await stages.shard()
    async with asyncio.TaskGroup() as tasks:
        yield Broadcasts(stages, tasks, name)


async def test_a_condition_reaches_those_whose_topics_it_asks_for(store: Store) -> None:
    async with shard_of(store) as shard:
        both = await shard.join(await shard.device(NEWS, SPORT))
        one = await shard.join(await shard.device(NEWS))
        none = await shard.join(await shard.device())
        for_both = await shard.publish(NEWS_AND_SPORT)
        for_none = await shard.publish(NOT_NEWS)
        await shard.hear()
        await eventually(lambda: both.got and none.got)
        assert (both.got, one.got, none.got) == ([for_both], [], [for_none])
        assert await shard.counts(for_both) == {"sent": 1, "delivered": 1}
        status = await shard.stages.messages.status(for_both)
        assert status is not None
        assert (status.target, status.topic) == ("condition", None)


async def test_who_was_away_gets_what_it_missed_and_nothing_of_before_it_registered(
    store: Store,
) -> None:
    async with shard_of(store) as shard:
        device = await shard.device()
        missed = [await shard.publish(NOT_NEWS) for _ in range(3)]
        await shard.publish(NEWS_AND_SPORT)
        head = (await shard.stages.topics.heads(shard.stages.project, [BROADCAST]))[BROADCAST]
        # What was published in the millisecond of a registration may come as well.
        await eventually(lambda: shard.stages.clock.now_ms() > head + 1)
        late = await shard.device()
        peer, newcomer = await shard.join(device), await shard.join(late)
        await eventually(lambda: peer.got == missed)
        after = await shard.publish(NOT_NEWS)
        await shard.hear()
        await eventually(lambda: newcomer.got)
        assert newcomer.got == [after]


async def test_a_change_of_topics_counts_from_the_next_message_on(store: Store) -> None:
    async with shard_of(store) as shard:
        device = await shard.device(NEWS)
        peer = await shard.join(device)
        await shard.publish(NEWS_AND_SPORT)
        await shard.hear()
        await shard.subscribe(device, SPORT)
        await shard.hear()
        names = {NEWS, SPORT}
        await eventually(lambda: names <= {topic.name for topic in peer.session.topics})
        second = await shard.publish(NEWS_AND_SPORT)
        await shard.hear()
        await eventually(lambda: peer.got)
        assert peer.got == [second]


async def test_a_filter_asks_for_the_profile_as_it_is_now(store: Store) -> None:
    async with shard_of(store) as shard:
        registration, project = shard.stages.registration, shard.stages.project
        device = await shard.device(language="en-GB", app_version="1.9", attributes={"plan": "x"})
        peer = await shard.join(device)
        english, pro = Filter(language=("en",)), Filter(attributes={"plan": ("pro",)})
        first = await shard.publish(Selection(filter=english))
        await shard.publish(Selection(filter=pro))
        await shard.hear()
        await eventually(lambda: peer.got == [first])
        await registration.update(
            project, device.device_id, DeviceChanges(attributes={"plan": "pro"}, language="de")
        )
        hints = await shard.stages.inbox(shard.registry.shard)
        assert Resubscribe(device.device_id, peer.session.epoch) in hints
        await shard.hear()
        await eventually(lambda: peer.session._profile.language == "de")
        await shard.publish(Selection(filter=english))
        second = await shard.publish(Selection(filter=pro))
        await shard.hear()
        await eventually(lambda: len(peer.got) > 1)
        assert peer.got == [first, second]


async def test_a_change_that_no_filter_asks_for_disturbs_no_session(store: Store) -> None:
    async with shard_of(store) as shard:
        device = await shard.device()
        await shard.join(device)
        await shard.stages.registration.update(
            shard.stages.project, device.device_id, DeviceChanges(timezone="Europe/Berlin")
        )
        assert await shard.stages.inbox(shard.registry.shard) == []


async def test_the_version_that_the_app_connects_with_counts(store: Store) -> None:
    async with shard_of(store) as shard:
        device = await shard.device(app_version="1.9")
        attach = shard.stages.mailboxes.attach
        hashed = await shard.stages.mailboxes.credential_of(device.device_id)
        assert hashed is not None
        now_ms = shard.stages.clock.now_ms()
        name = shard.registry.shard
        attached = await attach(device.device_id, hashed, name, now_ms, 1, "2.0")
        assert attached.standing.profile == Profile("python", "2.0")
        again = await attach(device.device_id, hashed, name, now_ms, 1)
        assert again.standing.profile.app_version == "2.0"


async def test_a_filter_of_a_topic_asks_its_subscribers_alone(store: Store) -> None:
    async with shard_of(store) as shard:
        web = await shard.join(await shard.device(NEWS, platform="web"))
        ios = await shard.join(await shard.device(NEWS, platform="ios"))
        stranger = await shard.join(await shard.device(platform="ios"))
        key = (shard.stages.project, NEWS)
        await eventually(lambda: shard.index._topics[key].followed)
        some = await shard.publish(Selection(filter=Filter(platform=("ios",))), NEWS)
        everyone = await shard.stages.publish(NEWS)
        await shard.hear()
        await eventually(lambda: len(ios.got) == 2)
        assert (web.got, ios.got, stranger.got) == ([everyone], [some, everyone], [])
        assert (await shard.counts(some))["sent"] == 1


async def test_a_burst_with_filters_reaches_those_that_each_asks_for_in_order(
    store: Store,
) -> None:
    async with shard_of(store) as shard:
        web = await shard.join(await shard.device(NEWS, platform="web"))
        ios = await shard.join(await shard.device(NEWS, platform="ios"))
        # Too many for a write at once, so that the burst waits its turn.
        for number in range(SLICE):
            await shard.connect(await shard.device(NEWS, platform=f"other{number % 2}"))
        key = (shard.stages.project, NEWS)
        await eventually(lambda: shard.index._topics[key].followed)
        everyone: list[str] = []
        some: list[str] = []
        for _ in range(12):
            everyone.append(await shard.stages.publish(NEWS))
            some.append(everyone[-1])
            some.append(await shard.publish(Selection(filter=Filter(platform=("ios",))), NEWS))
        await shard.hear()
        await eventually(lambda: (web.got, ios.got) == (everyone, some))
        assert (await shard.counts(MessageId(some[-1])))["sent"] == 1


async def test_only_who_got_a_broadcast_costs_the_store_while_it_is_connected(
    store: Store,
) -> None:
    async with shard_of(store) as shard:
        devices = [await shard.device(NEWS, SPORT), await shard.device()]
        peers = [await shard.join(device) for device in devices]
        message = await shard.publish(NEWS_AND_SPORT)
        await shard.hear()
        await eventually(lambda: peers[0].got == [message])
        await shard.ledger.flush()
        assert await shard.stored(devices[0]) is not None
        assert await shard.stored(devices[1]) is None
        for peer in peers:
            peer.end()
        await shard.ledger.flush()
        assert await shard.stored(devices[1]) == await shard.stored(devices[0])
        # So nobody reads the broadcast log anew.
        again = [await shard.join(device) for device in devices]
        assert [peer.got for peer in again] == [[], []]
        assert again[1].session._cursors is None


async def test_without_broadcasts_a_session_holds_no_cursors(store: Store) -> None:
    async with shard_of(store) as shard:
        one, other = await shard.device(), await shard.device()
        first, second = await shard.join(one), await shard.join(other)
        assert first.session._cursors is None
        assert first.session._profile is second.session._profile
        first.end()
        await shard.ledger.flush()
        assert await shard.stored(one) is None


async def test_a_lost_hint_a_collapse_key_and_a_cancel_work_as_for_topics(store: Store) -> None:
    async with shard_of(store) as shard:
        peer = await shard.join(await shard.device())
        await shard.publish(NOT_NEWS, collapse_key="k")
        cancelled = await shard.publish(NOT_NEWS)
        last = await shard.publish(NOT_NEWS, collapse_key="k")
        await shard.lose()
        status = await shard.stages.publisher.retract(shard.stages.project, cancelled)
        assert status is not None
        assert status.state is Event.CANCELLED
        await shard.index._tick()
        await eventually(lambda: peer.got == [last])
        live = await shard.publish(NOT_NEWS, ttl_ms=0)
        nobody = await shard.publish(NEWS_AND_SPORT, ttl_ms=0)
        await shard.hear()
        await eventually(lambda: peer.got == [last, live])
        assert await shard.counts(nobody) == {}


async def test_what_a_newer_version_wrote_goes_to_nobody_and_holds_nothing_up(
    store: Store,
) -> None:
    async with shard_of(store) as shard:
        peer = await shard.join(await shard.device())
        await shard.publish(Selection("'news' near topics"))
        after = await shard.publish(NOT_NEWS)
        await shard.hear()
        await eventually(lambda: peer.got == [after])


@pytest.mark.parametrize("ttl_ms", [60_000, 0])
async def test_a_scheduled_broadcast_goes_out_when_it_is_due(store: Store, ttl_ms: int) -> None:
    async with shard_of(store) as shard:
        stages = shard.stages
        peer = await shard.join(await shard.device())
        due_ms = stages.clock.now_ms() + 5_000
        message = await shard.publish(NOT_NEWS, send_at_ms=due_ms, ttl_ms=ttl_ms)
        await shard.hear()
        assert await stages.events(message) == ["scheduled"]
        stages.clock.ahead_ms += 5_001
        for _ in range(2):
            await stages.issuer.issue(message, stages.clock.now_ms())
        await shard.hear()
        await eventually(lambda: peer.got == [message])
        assert await stages.events(message) == ["scheduled", "accepted"]
        assert await shard.counts(message) == {"sent": 1, "delivered": 1}
