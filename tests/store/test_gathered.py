"""Calls that leave as one: each part has its own outcome, and the whole keeps its bounds."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from router.model.errors import StoreReplyError, StoreUnavailableError
from router.model.ids import DeviceId, MessageId, ShardId, partition_of
from router.model.mailbox import Ack, EnqueueResult
from router.model.receipt import Event
from router.store import keys
from router.store.batch import Batch
from router.store.command import JOIN_S, MAX_GATHERED, Command, Parts
from router.store.connection import Store, StoreOptions
from router.store.link import unpack
from router.store.mailbox import Mailboxes
from router.store.messages import Messages
from router.store.outbox import Outbox
from router.telemetry.metrics import Metrics
from tests.store.test_mailbox_bounds import NOW, envelope, registered
from tests.support.valkey import make_store


async def neighbours(mailboxes: Mailboxes) -> list[DeviceId]:
    """Register two devices of one partition."""
    first = await registered(mailboxes)
    while True:
        second = await registered(mailboxes)
        if partition_of(second) == partition_of(first):
            return [first, second]


async def calls(store: Store) -> int:
    stats = await store.batch.call("INFO", "commandstats")
    assert isinstance(stats, bytes)
    (line,) = [one for one in stats.decode().splitlines() if one.startswith("cmdstat_fcall:")]
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_messages_of_one_partition_are_stored_by_one_call_in_their_order(
    store: Store,
) -> None:
    mailboxes = Mailboxes(store)
    devices = await neighbours(mailboxes)
    before = await calls(store)
    offered = [envelope(devices[number % 2]) for number in range(20)]
    stored = await asyncio.gather(*(mailboxes.enqueue(one) for one in offered))
    assert await calls(store) == before + 1
    assert [one.seq for one in stored] == [1 + number // 2 for number in range(20)]
    for number, device in enumerate(devices):
        attached = await mailboxes.attach(device, "h", ShardId("s"), NOW, 100)
        wanted = [one.message for one in offered[number::2]]
        assert [one.message for one in attached.window.messages] == wanted


async def test_acks_of_several_devices_are_one_call_and_leave_nothing_behind(store: Store) -> None:
    mailboxes = Mailboxes(store)
    devices = await neighbours(mailboxes)
    epochs = [
        (await mailboxes.attach(device, "h", ShardId("s"), NOW, 10)).epoch for device in devices
    ]
    offered = [envelope(devices[number % 2]) for number in range(6)]
    stored = await asyncio.gather(*(mailboxes.enqueue(one) for one in offered))
    before = await calls(store)
    # The later ones first: out of order, an ack of each is found all the same.
    for turn in (slice(3, None), slice(None, 3)):
        acks = [
            (number % 2, Ack(one.message, done.seq, NOW + 1))
            for number, (one, done) in enumerate(zip(offered, stored, strict=True))
        ][turn]
        await asyncio.gather(
            *(mailboxes.ack(devices[one], epochs[one], [ack], NOW + 2) for one, ack in acks)
        )
    assert await calls(store) == before + 2
    messages = Messages(store)
    for one in offered:
        status = await messages.status(one.message)
        assert status is not None
        assert status.state is Event.DELIVERED
        assert [entry.event for entry in status.timeline] == [
            Event.ACCEPTED,
            Event.SENT,
            Event.DELIVERED,
        ]
    for device in devices:
        assert await store.batch.call("EXISTS", keys.index(device), keys.frames(device)) == 0
        timers = keys.timers(partition_of(device))
        for kind in ("redeliver", "expire"):
            assert await store.batch.call("ZSCORE", timers, f"{kind}:{device}") is None


async def test_an_ack_of_another_message_under_a_seq_changes_nothing(store: Store) -> None:
    mailboxes = Mailboxes(store)
    device = await registered(mailboxes)
    epoch = (await mailboxes.attach(device, "h", ShardId("s"), NOW, 10)).epoch
    first, second = envelope(device), envelope(device)
    await mailboxes.enqueue(first)
    await mailboxes.enqueue(second)
    for seq in (1, 2, 3):
        wrong = MessageId(f"{first.message[:-1]}{'a' if first.message[-1] != 'a' else 'b'}")
        await mailboxes.ack(device, epoch, [Ack(wrong, seq, 0)], NOW)
    await mailboxes.ack(device, epoch, [Ack(first.message, 2, 0)], NOW)
    window = await mailboxes.fetch(device, epoch, 0, NOW, 10)
    assert window is not None
    assert [one.message for one in window.messages] == [first.message, second.message]


async def test_a_status_lasts_as_long_as_its_message_and_then_ends(store: Store) -> None:
    mailboxes = Mailboxes(store)
    device = await registered(mailboxes)
    one = envelope(device)
    await mailboxes.enqueue(one)
    assert await store.batch.call("PTTL", keys.message(one.message)) == -1
    await mailboxes.expire(device, one.expires_ms)
    assert await store.batch.call("PTTL", keys.message(one.message)) > 0  # type: ignore[operator]


async def test_a_broken_mailbox_fails_its_own_message_alone(store: Store) -> None:
    mailboxes = Mailboxes(store)
    sound, broken = await neighbours(mailboxes)
    await store.batch.call("SET", keys.index(broken), "not a sorted set")
    offered = [envelope(sound), envelope(broken), envelope(sound)]
    stored = await asyncio.gather(
        *(mailboxes.enqueue(one) for one in offered), return_exceptions=True
    )
    assert isinstance(stored[1], StoreReplyError)
    for one in (stored[0], stored[2]):
        assert not isinstance(one, BaseException)
        assert one.result is EnqueueResult.ACCEPTED
    timers = keys.timers(partition_of(sound))
    assert await store.batch.call("ZSCORE", timers, f"expire:{sound}") is not None
    await store.batch.call("UNLINK", keys.index(broken))


async def test_a_withdrawn_part_is_not_stored(store: Store) -> None:
    mailboxes = Mailboxes(store)
    devices = await neighbours(mailboxes)
    kept, withdrawn = envelope(devices[0]), envelope(devices[1])
    begun = [mailboxes.begin_enqueue(one) for one in (withdrawn, kept)]
    begun[0].cancel()
    assert mailboxes.enqueued(kept, await begun[1]).seq == 1
    assert await Messages(store).status(withdrawn.message) is None


async def test_every_part_counts_in_the_queue() -> None:
    async with make_store(
        StoreOptions(url="unix:///no/such.sock", max_queue=3, deadline_s=0.1)
    ) as store:
        mailboxes = Mailboxes(store)
        one = envelope(DeviceId("device-that-waits"))
        waiting = [mailboxes.begin_enqueue(one) for _ in range(3)]
        refused = mailboxes.begin_enqueue(one)
        assert refused.done()
        with pytest.raises(StoreUnavailableError):
            await refused
        for future in waiting:
            with pytest.raises(StoreUnavailableError):
                await future
        again = mailboxes.begin_enqueue(one)  # those that failed gave up their place
        assert not again.done()
        again.cancel()


async def test_a_call_takes_no_more_messages_than_its_bound() -> None:
    batch = Batch(Metrics(CollectorRegistry()), deadline_s=60, max_queue=1000)
    part = ((), ("x",))
    for messages in (1, MAX_GATHERED - 1, 1, MAX_GATHERED):
        asked = batch.gather("f", ("k",), (), part, messages)
        assert not asked.done()
    packed = [unpack(command.seal()) for command in batch.take(lambda _: True)]
    assert [len(words) - 4 for words in packed] == [2, 1, 1]
    batch.close()


def test_nothing_joins_a_call_that_began_too_early_or_was_written() -> None:
    command = Command(b"", Parts("f", ("k",), ()), 10.0, urgent=False)
    assert not command.takes_more(1, 10.0)  # nobody waits for it
    loop = asyncio.new_event_loop()
    parts = Parts("f", ("k",), ())
    parts.add(((), ()), loop.create_future())
    command = Command(b"", parts, 10.0, urgent=False)
    assert command.takes_more(1, 10.0 + JOIN_S / 2)
    assert not command.takes_more(1, 10.0 + 2 * JOIN_S)
    command.seal()
    assert not command.takes_more(1, 10.0)
    loop.close()


async def test_events_of_one_call_stand_in_the_outbox_in_order(store: Store) -> None:
    mailboxes, outbox = Mailboxes(store), Outbox(store)
    devices = await neighbours(mailboxes)
    partition = partition_of(devices[0])
    await outbox.open_group("gathered")
    await outbox.take_over(partition, "gathered")
    offered = [envelope(devices[number % 2]) for number in range(6)]
    await asyncio.gather(*(mailboxes.enqueue(one) for one in offered))
    read = await outbox.read(partition, "gathered", 100)
    mine = [receipt.message for _, receipt in read if receipt.device in devices]
    assert mine == [one.message for one in offered]
    await outbox.close_group(partition, "gathered")
