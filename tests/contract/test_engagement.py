"""What people do with messages counts once for each device, however often it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from typing_extensions import override

from gateway.shard.dialect import EventFrame, NackFrame
from gateway.shard.engagement import EngagementLedger
from router.model.ids import DeviceId, MessageId, ProjectId, TopicName, partition_of_message
from router.model.mailbox import Ack
from router.model.message import ReceiptMode
from router.model.receipt import Event
from router.registration import Registered
from router.store import keys
from router.store.connection import Store
from router.store.engagement import Engagement, Engagements
from tests.contract.router_stages import to
from tests.contract.test_router_topics import NEWS, TopicStages
from tests.contract.test_shard_topics import Peer, Shard
from tests.support.waiting import eventually

EXACT = 10_000
DEVICE = DeviceId("d" * 16)


@pytest.fixture
def stages(store: Store) -> TopicStages:
    return TopicStages(store)


@pytest.fixture
def engagements(store: Store) -> Engagements:
    return Engagements(store)


def opened(device: DeviceId, at_ms: int = 5, *, sent: bool = False) -> Engagement:
    return Engagement(device, Event.OPENED, at_ms, "tap", sent)


async def counts(stages: TopicStages, message: MessageId) -> dict[str, int]:
    status = await stages.messages.status(message)
    assert status is not None
    return status.counts


async def receipts(stages: TopicStages, message: MessageId) -> list[str]:
    outbox = keys.outbox(partition_of_message(message))
    reply = await stages.store.batch.call("XRANGE", outbox, "-", "+")
    assert isinstance(reply, list)
    lines = [entry[1][1].decode() for entry in reply]
    return [line.split("|", 2)[2] for line in lines if f"|{message}|" in line]


@pytest.mark.parametrize("mode", [ReceiptMode.AGGREGATE, ReceiptMode.DEVICE])
async def test_an_event_counts_once_for_each_device(
    stages: TopicStages, engagements: Engagements, mode: ReceiptMode
) -> None:
    devices = [(await stages.register()) for _ in range(3)]
    await stages.subscribe(*devices)
    message = await stages.publish(receipts=mode)
    for at_ms in (5, 6):
        told = [opened(device.device_id, at_ms) for device in devices]
        await engagements.note(stages.project, message, [*told, *told])
    clicked = Engagement(devices[0].device_id, Event.CLICKED, 7)
    await engagements.note(stages.project, message, [clicked])
    assert await counts(stages, message) == {"opened": 3, "clicked": 1}
    status = await stages.messages.status(message)
    assert status is not None
    assert [(one.event, one.time_ms) for one in status.timeline][:2] == [
        (Event.OPENED, 5),
        (Event.CLICKED, 7),
    ]
    each = sorted((await receipts(stages, message))[1:])
    expected = [f"{device.device_id}|opened|5|0|0|tap" for device in devices]
    expected.append(f"{devices[0].device_id}|clicked|7|0|0|")
    assert each == (sorted(expected) if mode is ReceiptMode.DEVICE else [])


async def test_nothing_is_counted_where_the_sender_wants_no_receipts(
    stages: TopicStages, engagements: Engagements
) -> None:
    message = await stages.publish(receipts=ReceiptMode.NONE)
    await engagements.note(stages.project, message, [opened(DEVICE, sent=True)])
    assert await counts(stages, message) == {}


async def test_a_device_that_can_not_have_the_message_counts_nothing(
    stages: TopicStages, engagements: Engagements, store: Store
) -> None:
    other = TopicStages(store)
    stranger, foreign, reader = (
        await stages.register(),
        await other.register(),
        await stages.register(),
    )
    await other.subscribe(foreign)
    tokens = [stranger.token]
    sports = TopicName("sports")
    await stages.subscription.change_tokens(stages.project, sports, tokens, subscribe=True)
    await stages.subscribe(reader)
    message = await stages.publish()
    for device in (stranger, foreign, reader):
        await engagements.note(stages.project, message, [opened(device.device_id)])
        await engagements.note(other.project, message, [opened(device.device_id, sent=True)])
    assert await counts(stages, message) == {"opened": 1}
    unknown = MessageId(message[:-1] + ("a" if message[-1] != "a" else "b"))
    await engagements.note(stages.project, unknown, [opened(reader.device_id)])
    assert await stages.messages.status(unknown) is None


async def test_of_a_message_to_everybody_any_device_of_the_project_counts(
    stages: TopicStages, engagements: Engagements, store: Store
) -> None:
    device, foreign = await stages.register(), await TopicStages(store).register()
    message = await stages.publish(TopicName("*"))
    for one in (device, foreign):
        await engagements.note(stages.project, message, [opened(one.device_id)])
    assert await counts(stages, message) == {"opened": 1}


async def test_beyond_a_bound_devices_are_estimated(
    stages: TopicStages, engagements: Engagements
) -> None:
    message = await stages.publish()
    told = [opened(DeviceId(f"device-{n:09}"), sent=True) for n in range(EXACT + 2_000)]
    await engagements.note(stages.project, message, told[:EXACT])
    assert await counts(stages, message) == {"opened": EXACT}
    for _ in range(2):
        await engagements.note(stages.project, message, told)
    estimate = (await counts(stages, message))["opened"]
    assert abs(estimate - len(told)) < 0.03 * len(told)
    call = stages.store.batch.call
    assert await call("EXISTS", f"{keys.message(message)}:opened") == 0
    used = await call("MEMORY", "USAGE", f"{keys.message(message)}:opened:many")
    assert isinstance(used, int)
    assert used < 20_000


@pytest.mark.parametrize("mode", [ReceiptMode.AGGREGATE, ReceiptMode.DEVICE])
async def test_what_is_noted_of_devices_goes_with_the_status(
    stages: TopicStages, engagements: Engagements, mode: ReceiptMode
) -> None:
    message = await stages.publish(receipts=mode)
    await engagements.note(stages.project, message, [opened(DEVICE, sent=True)])
    call = stages.store.batch.call
    prefix = keys.message(message)

    async def lives() -> list[object]:
        found = await call("KEYS", f"{prefix}*")
        assert isinstance(found, list)
        return [await call("PTTL", key) for key in found]

    for limit in (60_000 + stages.store.options.retention_ms, stages.store.options.retention_ms):
        left = await lives()
        assert len(left) == (3 if mode is ReceiptMode.AGGREGATE else 2)
        assert all(isinstance(one, int) and 0 < one <= limit for one in left)
        await stages.publisher.retract(stages.project, message)


async def test_over_reconnects_and_the_deaths_of_shards_a_device_counts_once(
    stages: TopicStages,
) -> None:
    device, absent = await stages.register(), await stages.register()
    await stages.subscribe(device)
    message = guess = MessageId("")
    for _ in range(3):
        async with running_shard(stages) as shard:
            peer = await shard.connect(device)
            if not message:
                message = await published(shard, peer)
                guess = await stages.publish(TopicName("other"))
            for _ in range(2):
                peer.say(EventFrame(message, "opened", action="tap"))
                peer.say(EventFrame(guess, "opened"))
            stranger = await shard.connect(absent)
            stranger.say(EventFrame(message, "opened"))
            await shard.ledger.flush()
    assert (await counts(stages, message))["opened"] == 1
    assert await counts(stages, guess) == {}


@contextlib.asynccontextmanager
async def running_shard(stages: TopicStages) -> AsyncIterator[Shard]:
    """Run a shard of these stages until the end of the block."""
    name = await stages.shard()
    async with asyncio.TaskGroup() as tasks:
        yield Shard(stages, tasks, name)


async def published(shard: Shard, peer: Peer) -> MessageId:
    key = (shard.stages.project, NEWS)
    await eventually(lambda: shard.index._topics[key].followed)
    message = await shard.stages.publish()
    await shard.hear()
    assert message in peer.got
    return message


async def test_a_message_in_flight_counts_though_its_subscription_is_over(
    stages: TopicStages,
) -> None:
    device = await stages.register()
    await stages.subscribe(device)
    async with running_shard(stages) as shard:
        peer = await shard.connect(device, acks=False)
        message = await published(shard, peer)
        peer.say(EventFrame(message, "displayed"))
        tokens = [device.token]
        await stages.subscription.change_tokens(stages.project, NEWS, tokens, subscribe=False)
        await shard.ledger.flush()
    assert (await counts(stages, message))["displayed"] == 1


async def test_a_nack_is_told_once_where_receipts_of_devices_are_wanted(
    stages: TopicStages,
) -> None:
    device = await stages.register()
    await stages.subscribe(device)
    async with running_shard(stages) as shard:
        peer = await shard.connect(device, acks=False)
        await published(shard, peer)
        messages = {
            mode: await stages.publish(receipts=mode)
            for mode in (ReceiptMode.DEVICE, ReceiptMode.AGGREGATE)
        }
        await shard.hear()
        for message in messages.values():
            for _ in range(2):
                peer.say(NackFrame(message))
        await shard.ledger.flush()
    each = await receipts(stages, messages[ReceiptMode.DEVICE])
    assert [line.split("|")[1] for line in each] == ["accepted", "sent", "nacked"]
    assert (await counts(stages, messages[ReceiptMode.DEVICE]))["nacked"] == 1
    assert "nacked" not in await counts(stages, messages[ReceiptMode.AGGREGATE])


class Kept(Engagements):
    """Takes what it is told, and stores nothing."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.noted: list[tuple[MessageId, int]] = []

    @override
    async def note(
        self, project: ProjectId, message: MessageId, told: Sequence[Engagement]
    ) -> None:
        self.noted.append((message, len(told)))


async def test_what_waits_to_be_stored_has_a_bound(store: Store) -> None:
    kept = Kept(store)
    ledger = EngagementLedger(kept, limit=3)
    project = ProjectId("demo")
    for n in range(5):
        for _ in range(2):
            ledger.add(project, MessageId("m1"), opened(DeviceId(f"device-{n:09}")))
    ledger.add(project, MessageId("m2"), opened(DEVICE))
    await ledger.flush()
    await ledger.flush()
    assert kept.noted == [(MessageId("m1"), 3)]


async def send(stages: TopicStages, device: Registered, ttl_ms: int = 60_000) -> MessageId:
    return await stages.sender.send(stages.project, to(device, ttl_ms=ttl_ms))


async def test_what_a_device_tells_of_its_own_message_counts_once_before_and_after_its_ack(
    stages: TopicStages,
) -> None:
    device, other = await stages.register(), await stages.register()
    attached = await stages.attach(device, await stages.shard())
    message = await send(stages, device)
    now_ms = stages.clock.now_ms()

    async def engage(event: Event, who: Registered = device) -> bool:
        return await stages.mailboxes.engage(who.device_id, message, event, now_ms, "", now_ms)

    assert not await engage(Event.OPENED, other)
    assert await engage(Event.DISPLAYED)
    assert not await engage(Event.DISPLAYED)
    await stages.mailboxes.ack(device.device_id, attached.epoch, [Ack(message, 1, 0)], now_ms)
    assert not await engage(Event.DISPLAYED)
    assert await engage(Event.OPENED)
    assert not await engage(Event.OPENED)
    assert not await engage(Event.CLICKED, other)
    assert [line.split("|")[1] for line in await receipts(stages, message)] == [
        "accepted",
        "sent",
        "displayed",
        "delivered",
        "opened",
    ]


async def test_of_a_message_that_expired_nothing_counts(stages: TopicStages) -> None:
    device = await stages.register()
    message = await send(stages, device, ttl_ms=1_000)
    later_ms = stages.clock.now_ms() + 2_000
    await stages.mailboxes.expire(device.device_id, later_ms)
    assert not await stages.mailboxes.engage(
        device.device_id, message, Event.OPENED, later_ms, "", later_ms
    )
    assert await stages.events(message) == ["accepted", "expired"]
