"""The topics of a shard over a real store, with sessions that have no socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest

from gateway.shard.acks import ShardLedger
from gateway.shard.dialect import AckFrame, Connect, SubscribeFrame
from gateway.shard.dialects import discover
from gateway.shard.engagement import EngagementLedger
from gateway.shard.events import Action, Close, Relay, Send, SessionLimits, Tally
from gateway.shard.registry import Registry
from gateway.shard.session import Session
from gateway.shard.topic_ledger import TopicLedger
from gateway.shard.topics import TopicIndex
from gateway.shard.turns import SLICE
from router.model.hint import AnyHint
from router.model.ids import ShardId, TopicName
from router.model.message import ReceiptMode
from router.model.topic import Standing
from router.registration import Registered
from router.store.connection import Store
from router.store.engagement import Engagements
from router.store.keys import topic_shards
from router.store.link import Reply
from sdk_client.wire import SUBPROTOCOL_MSGPACK, decode
from tests.conformance.wire import read_frames
from tests.contract.test_router_topics import NEWS, TopicStages
from tests.support.waiting import eventually

_frames = msgspec.msgpack.Encoder()


class Peer:
    """Connection and device in one: it acks at once, or never."""

    def __init__(self, shard: "Shard", *, acks: bool = True) -> None:
        self.session = Session(
            discover()[SUBPROTOCOL_MSGPACK], shard.limits, shard.stages.clock.now_ms()
        )
        self.open = True
        self.got: list[str] = []
        self.writes = 0
        """With messages to topics."""
        self.on_ok: Callable[[], object] = bool
        self._shard = shard
        self._acks = acks

    def carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Relay):
                self.writes += 1
                frames, rest = read_frames(action.data)
                assert not rest
                self._hear([str(decode(frame.payload)["id"]) for frame in frames])
            elif isinstance(action, Close):
                self.open = False
            elif not isinstance(action, Send):
                self._shard.registry.perform(self, action)
            elif isinstance(action.payload, bytes) and decode(action.payload)["op"] == "ok":
                self.on_ok()

    def abort(self) -> None:
        self.open = False

    def say(self, frame: object) -> None:
        now_ms = self._shard.stages.clock.now_ms()
        self.carry_out(list(self.session.on_message(_frames.encode(frame), now_ms)))

    def end(self) -> None:
        self.open = False
        for action in self.session.on_closed(self._shard.stages.clock.now_ms()):
            self._shard.registry.perform(self, action)
        self._shard.registry.closed(self, "lost")

    def _hear(self, messages: list[str]) -> None:
        self.got += messages
        if self._acks:
            self.say(AckFrame(messages))


class Shard:
    """A shard without sockets and without an inbox: a test hands hints over, or loses them."""

    def __init__(self, stages: TopicStages, tasks: asyncio.TaskGroup, name: ShardId) -> None:
        self.stages = stages
        now_ms, metrics = stages.clock.now_ms, stages.metrics
        ledger = ShardLedger(stages.acks, stages.mailboxes, now_ms)
        self.registry = Registry(
            name, stages.mailboxes, ledger, stages.routing, metrics, now_ms, tasks
        )
        self.ledger = TopicLedger(
            stages.topics, EngagementLedger(Engagements(stages.store)), now_ms
        )
        self.index = self.registry.topics = TopicIndex(
            self.registry.shard, stages.topics, stages.subscription, metrics, self.ledger, tasks
        )
        self.limits = SessionLimits(shard=self.registry.shard, tally=Tally())

    async def connect(self, device: Registered, *, acks: bool = True) -> Peer:
        peer = Peer(self, acks=acks)
        peer.say(Connect(device.credential))
        await eventually(lambda: peer.session.epoch)
        return peer

    async def hear(self) -> None:
        """Take whatever was hinted since the last call."""
        hints: list[AnyHint] = await self.stages._inbox(self.registry.shard)
        await self.stages.store.batch.call("XTRIM", f"shard:{self.registry.shard}", "MAXLEN", 0)
        self.registry.dispatch(hints)

    async def lose(self) -> None:
        await self.stages._inbox(self.registry.shard)
        await self.stages.store.batch.call("XTRIM", f"shard:{self.registry.shard}", "MAXLEN", 0)

    def reads(self, source: str) -> float:
        return self.stages.count("pushwire_topic_reads_total", source=source)


@contextlib.asynccontextmanager
async def shard_of(store: Store) -> AsyncIterator[Shard]:
    stages = TopicStages(store)
    name = await stages.shard()
    async with asyncio.TaskGroup() as tasks:
        yield Shard(stages, tasks, name)


async def subscribed(shard: Shard, number: int, *, acks: bool = True) -> list[Peer]:
    """So many connected devices that subscribe, followed by their shard."""
    devices = [await shard.stages.register() for _ in range(number)]
    await shard.stages.subscribe(*devices)
    peers = [await shard.connect(device, acks=acks) for device in devices]
    key = (shard.stages.project, NEWS)
    await eventually(lambda: shard.index._topics[key].followed)
    return peers


async def test_a_message_is_written_to_all_of_a_large_topic(store: Store) -> None:
    async with shard_of(store) as shard:
        peers = await subscribed(shard, SLICE + 3)
        sent = [await shard.stages.publish() for _ in range(3)]
        await shard.hear()
        await eventually(lambda: all(peer.got == sent for peer in peers))
        await shard.ledger.flush()
        status = await shard.stages.messages.status(sent[-1])
        assert status is not None
        assert status.counts == {"sent": SLICE + 3, "delivered": SLICE + 3}
        assert shard.reads("store") == 0


async def test_a_burst_goes_to_all_of_a_large_topic_in_few_writes(store: Store) -> None:
    async with shard_of(store) as shard:
        peers = await subscribed(shard, SLICE + 3)
        sent = [await shard.stages.publish() for _ in range(40)]
        await shard.hear()
        await eventually(lambda: all(peer.got == sent for peer in peers))
        assert max(peer.writes for peer in peers) <= 4
        await shard.ledger.flush()
        status = await shard.stages.messages.status(sent[-1])
        assert status is not None
        assert status.counts == {"sent": SLICE + 3, "delivered": SLICE + 3}
        assert shard.reads("store") == 0


async def test_a_lost_hint_is_noticed_by_the_next_message(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        sent = [await shard.stages.publish()]
        await shard.lose()
        sent.append(await shard.stages.publish())
        await shard.hear()
        await eventually(lambda: peer.got == sent)
        assert shard.stages.count("pushwire_topic_gaps_total") == 1


async def test_a_lost_hint_is_noticed_when_the_log_is_looked_at(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        message = await shard.stages.publish()
        await shard.lose()
        await shard.index._tick()
        await eventually(lambda: peer.got == [message])


async def test_a_storm_of_reconnects_reads_the_store_seldom(store: Store) -> None:
    async with shard_of(store) as shard:
        devices = [await shard.stages.register() for _ in range(40)]
        await shard.stages.subscribe(*devices)
        sent = [await shard.stages.publish() for _ in range(5)]
        peers = [await shard.connect(device) for device in devices]
        await eventually(lambda: all(peer.got == sent for peer in peers))
        assert shard.reads("store") <= 2
        assert shard.reads("tail") >= 35


async def test_cursors_are_stored_and_the_next_session_goes_on_from_them(store: Store) -> None:
    async with shard_of(store) as shard:
        device = await shard.stages.register()
        await shard.stages.subscribe(device)
        first = await shard.connect(device)
        before = await shard.stages.publish()
        await eventually(lambda: shard.index._topics[(shard.stages.project, NEWS)].followed)
        await shard.hear()
        await eventually(lambda: first.got == [before])
        first.end()
        await shard.ledger.flush()
        after = await shard.stages.publish()
        await shard.hear()
        second = await shard.connect(device)
        await eventually(lambda: second.got == [after])


async def test_a_device_that_is_back_at_once_gets_nothing_acked_again(store: Store) -> None:
    async with shard_of(store) as shard:
        device = await shard.stages.register()
        await shard.stages.subscribe(device)
        peer = await shard.connect(device)
        await eventually(lambda: shard.index._topics[(shard.stages.project, NEWS)].followed)
        first = await shard.stages.publish()
        await shard.hear()
        assert peer.got == [first]
        peer.end()
        again = await shard.connect(device)
        second = await shard.stages.publish()
        await shard.hear()
        await eventually(lambda: second in again.got)
        assert again.got == [second]


async def test_a_delivery_is_counted_before_the_cursor_that_tells_of_it(store: Store) -> None:
    """A shard that is killed in between would lose the receipt: its message does not come again."""
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        message = await shard.stages.publish(receipts=ReceiptMode.DEVICE)
        await shard.hear()
        device, epoch = peer.session.device, peer.session.epoch
        assert device is not None
        peer.end()

        async def saved() -> bool:
            listed = await shard.stages.topics.subscriptions(device, epoch)
            return listed is not None and await shard.stages.log(listed.topics[0][1]) == []

        async with asyncio.timeout(5):
            while not await saved():
                pass
        status = await shard.stages.messages.status(message)
        assert status is not None
        assert status.counts == {"sent": 1, "delivered": 1}


async def test_without_an_ack_the_next_session_gets_it_again(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1, acks=False)
        messages = [await shard.stages.publish() for _ in range(2)]
        await shard.hear()
        await eventually(lambda: peer.got == messages)
        peer.say(AckFrame([messages[1]]))
        device = peer.session.device
        assert device is not None
        epoch = peer.session.epoch
        await shard.ledger.flush()
        listed = await shard.stages.topics.subscriptions(device, epoch)
        assert listed is not None
        ((_, cursor),) = listed.topics
        assert await shard.stages.log(cursor) == messages


async def test_a_topic_that_nobody_subscribes_to_is_followed_no_more(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        # The project's broadcast log is followed beside it. Each tick looks at one of the two.
        assert shard.stages.count("pushwire_topics_followed") == 2
        peer.end()
        for _ in range(2):
            await shard.index._tick()
        assert shard.stages.count("pushwire_topics_followed") == 2  # for those who come back
        for _ in range(2):
            await shard.index._tick()
        assert shard.stages.count("pushwire_topics_followed") == 0
        assert not shard.index._siblings


async def test_a_topic_is_followed_before_the_device_hears_that_it_subscribed(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        key = topic_shards(shard.stages.project, TopicName("sport"))
        told: list[asyncio.Future[Reply]] = []

        def ask() -> None:  # at once: what was not sent to the store by now comes behind it
            told.append(store.batch.call("HEXISTS", key, shard.registry.shard))

        peer.on_ok = ask
        peer.say(SubscribeFrame(["sport"], "r1"))
        await eventually(lambda: told)
        assert await told[0] == 1


async def test_a_session_that_breaks_as_it_joins_is_no_subscriber(store: Store) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        local = shard.index._topics[(shard.stages.project, NEWS)]
        shard.index.left(peer)
        peer.session._cursors = object()  # type: ignore[assignment]
        with pytest.raises(TypeError):
            shard.index.joined(peer, Standing(((NEWS, 0),)))
        assert not local.peers
        peer.session._cursors = None


async def test_a_session_that_breaks_is_dropped_and_the_others_go_on(store: Store) -> None:
    async with shard_of(store) as shard:
        broken, whole = await subscribed(shard, 2)
        broken.session._cursors = object()  # type: ignore[assignment]
        message = await shard.stages.publish()
        await shard.hear()
        await eventually(lambda: whole.got == [message])
        assert not broken.open
        broken.session._cursors = None


async def test_a_message_that_is_taken_back_before_it_is_heard_of_goes_to_nobody(
    store: Store,
) -> None:
    async with shard_of(store) as shard:
        (peer,) = await subscribed(shard, 1)
        first, second = await shard.stages.publish(), await shard.stages.publish()
        published = await shard.stages.published(shard.registry.shard)
        await shard.stages.publisher.retract(shard.stages.project, first)
        hints = await shard.stages.published(shard.registry.shard)
        assert len(hints) == 3
        shard.registry.dispatch([hints[2], *published])
        assert peer.got == [second]
