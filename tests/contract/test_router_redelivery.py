"""Timers over a real store: nothing that was accepted is forgotten."""

import asyncio

import pytest
import structlog

from router.model.hint import Deliver, Hint, Wake
from router.model.ids import ShardId, partition_of
from router.model.mailbox import Ack
from router.model.message import Message
from router.model.receipt import Event
from router.policy.delivery import replay
from router.registration import Registered
from router.store import keys
from router.store.connection import Store
from tests.contract.router_stages import Stages, to
from tests.support.valkey import opened_store

_WORKER = "timers-worker"


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


async def run_timers(stages: Stages, device: Registered, ahead_ms: int) -> int:
    """Carry out what is due `ahead_ms` from now in the device's partition."""
    partition = partition_of(device.device_id)
    assert await stages.leases.partition_acquire(partition, _WORKER, 60_000)
    stages.clock.ahead_ms += ahead_ms
    return await stages.redelivery.run_once(partition, _WORKER)


async def wakes(stages: Stages, shard: ShardId) -> list[Hint]:
    return [hint for hint in await stages.inbox(shard) if isinstance(hint, Wake)]


async def test_an_unacked_message_wakes_its_session_again_and_again(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    await stages.sender.send(stages.project, to(device, ttl_ms=3_600_000))
    await run_timers(stages, device, 1_000)
    assert await wakes(stages, shard) == []
    for times in (1, 2):
        await run_timers(stages, device, 16_000)
        expected = [Wake(device.device_id, attached.epoch)] * times
        assert await wakes(stages, shard) == expected
    assert stages.count("pushwire_timers_total", kind="redeliver") >= 2


async def test_an_acked_message_wakes_nobody(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=3_600_000))
    stages.acks.ack(device.device_id, attached.epoch, [Ack(sent, 1, 0)])
    await stages.acks.flush()
    await run_timers(stages, device, 16_000)
    assert await wakes(stages, shard) == []


async def test_a_dead_shard_is_not_woken(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    await stages.attach(device, shard)
    await stages.sender.send(stages.project, to(device, ttl_ms=3_600_000))
    await stages.leases.shard_drop(shard)
    await run_timers(stages, device, 16_000)
    assert await wakes(stages, shard) == []


async def test_a_message_past_its_time_ends_as_expired(stages: Stages) -> None:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=5_000))
    later = await stages.sender.send(stages.project, to(device, ttl_ms=50_000))
    await run_timers(stages, device, 5_001)
    assert await stages.events(sent) == ["accepted", "expired"]
    assert await stages.events(later) == ["accepted"]
    await run_timers(stages, device, 50_000)
    assert await stages.events(later) == ["accepted", "expired"]


async def test_more_than_a_window_expires_in_several_rounds(stages: Stages) -> None:
    device = await stages.register()
    for _ in range(300):
        await stages.sender.send(stages.project, to(device, ttl_ms=5_000))
    stages.clock.ahead_ms += 6_000
    for _ in range(4):
        await run_timers(stages, device, 1)
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 0


async def test_a_scheduled_message_enters_the_mailbox_at_its_time(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    send_at = stages.clock.now_ms() + 30_000
    message = Message(token=device.token, data={"k": "v"}, ttl_ms=60_000, send_at_ms=send_at)
    sent = await stages.sender.send(stages.project, message)
    await run_timers(stages, device, 20_000)
    assert await stages.inbox(shard) == []
    assert await stages.events(sent) == ["scheduled"]
    await run_timers(stages, device, 11_000)
    (hint,) = await stages.inbox(shard)
    assert isinstance(hint, Deliver)
    assert (hint.message, hint.epoch, hint.seq) == (sent, attached.epoch, 1)
    assert hint.expires_ms == send_at + 60_000
    assert await stages.events(sent) == ["scheduled", "accepted"]


async def test_a_time_in_the_past_means_now(stages: Stages) -> None:
    device = await stages.register()
    message = Message(token=device.token, send_at_ms=stages.clock.now_ms() - 1)
    sent = await stages.sender.send(stages.project, message)
    assert await stages.events(sent) == ["accepted"]


@pytest.mark.parametrize("late_ms", [0, 1_000, 600_000])
async def test_a_scheduled_now_or_never_is_tried_when_it_is_released(
    stages: Stages, late_ms: int
) -> None:
    device, shard = await stages.register(), await stages.shard()
    await stages.attach(device, shard)
    send_at = stages.clock.now_ms() + 30_000
    message = Message(token=device.token, ttl_ms=0, send_at_ms=send_at)
    sent = await stages.sender.send(stages.project, message)
    await run_timers(stages, device, 30_000 + late_ms)
    (hint,) = await stages.inbox(shard)
    assert isinstance(hint, Deliver)
    assert (hint.message, hint.seq) == (sent, 0)
    # Its session takes it for late by the time since its release, not since it was sent.
    assert send_at + late_ms <= hint.expires_ms <= stages.clock.now_ms()


async def test_a_now_or_never_without_ack_lapses(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    await stages.attach(device, shard)
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=0))
    await run_timers(stages, device, 16_000)
    status = await stages.messages.status(sent)
    assert status is not None
    assert [entry.event for entry in status.timeline] == [Event.ACCEPTED, Event.EXPIRED]
    assert status.timeline[-1].detail == "not acked"


async def test_a_nacked_message_comes_again_when_its_device_wants_it(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=3_600_000))
    now_ms = stages.clock.now_ms()
    stages.acks.sent(device.device_id, attached.epoch, [Ack(sent, 1, now_ms)])
    stages.acks.nack(device.device_id, attached.epoch, sent, 1, "busy", now_ms + 5_000)
    await stages.acks.flush()
    await run_timers(stages, device, 4_000)
    assert await wakes(stages, shard) == []
    await run_timers(stages, device, 1_500)
    assert await wakes(stages, shard) == [Wake(device.device_id, attached.epoch)]
    status = await stages.messages.status(sent)
    assert status is not None
    events = [entry.event for entry in status.timeline]
    assert sorted(events) == sorted([Event.ACCEPTED, Event.SENT, Event.NACKED])
    assert replay(events) in {Event.NACKED, Event.SENT}


async def test_a_timer_of_an_unknown_kind_is_removed(stages: Stages) -> None:
    device = await stages.register()
    partition = partition_of(device.device_id)
    await stages.store.batch.call("ZADD", f"{{{partition}}}:timers", 1, "strange:thing")
    assert await run_timers(stages, device, 0) >= 1
    assert ("strange", "thing") not in await stages.timers.due(
        partition, _WORKER, stages.clock.now_ms(), 128
    )


async def test_one_broken_mailbox_does_not_stop_the_timers_of_others(fresh_store_url: str) -> None:
    async with opened_store(fresh_store_url) as store:
        stages = Stages(store)
        broken = await stages.register()
        partition = partition_of(broken.device_id)
        sound = await stages.register()
        while partition_of(sound.device_id) != partition:
            sound = await stages.register()
        await stages.sender.send(stages.project, to(broken, ttl_ms=1))
        sent = await stages.sender.send(stages.project, to(sound, ttl_ms=2))
        await stages.store.batch.call("SET", keys.index(broken.device_id), "no sorted set")
        with structlog.testing.capture_logs() as logs:
            await run_timers(stages, broken, 1_000)
        assert [line["event"] for line in logs] == ["timer.failed"]
        assert await stages.events(sent) == ["accepted", "expired"]
        assert stages.count("pushwire_partition_errors_total", stage="timers") == 1
        assert await run_timers(stages, broken, 1_000) == 0
        with structlog.testing.capture_logs():
            assert await run_timers(stages, broken, 60_000) == 1


async def test_what_a_full_store_refuses_makes_way_for_what_frees_memory(
    fresh_store_url: str,
) -> None:
    async with opened_store(fresh_store_url) as store:
        stages = Stages(store)
        device, shard = await stages.register(), await stages.shard()
        await stages.attach(device, shard)
        now_ms = stages.clock.now_ms()
        for number in range(130):
            message = Message(token=device.token, send_at_ms=now_ms + 1_000 + number)
            await stages.sender.send(stages.project, message)
        expiring = await stages.sender.send(stages.project, to(device, ttl_ms=5_000))
        await store.batch.call("CONFIG", "SET", "maxmemory", 1)
        with structlog.testing.capture_logs() as logs:
            await run_timers(stages, device, 6_000)
            await run_timers(stages, device, 0)
        assert "timers.refused" in [line["event"] for line in logs]
        assert await stages.events(expiring) == ["accepted", "expired"]


async def test_a_clock_that_went_back_does_not_hide_a_new_shard(stages: Stages) -> None:
    device, other = await stages.register(), await stages.register()
    stages.clock.ahead_ms = 3_600_000
    await stages.attach(other, await stages.shard())
    await stages.sender.send(stages.project, to(other))
    assert await run_timers(stages, other, 16_000)
    stages.clock.ahead_ms = 0
    shard = await stages.shard()
    await stages.attach(device, shard)
    await stages.sender.send(stages.project, to(device))
    await run_timers(stages, device, 16_000)
    assert len(await wakes(stages, shard)) == 1


async def test_timers_of_a_partition_of_somebody_else_are_left_alone(stages: Stages) -> None:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=1))
    stages.clock.ahead_ms += 1_000
    partition = partition_of(device.device_id)
    assert await stages.redelivery.run_once(partition, "an impostor") == 0
    assert await stages.events(sent) == ["accepted"]


async def test_partitions_that_look_for_shards_together_all_wake_their_sessions(
    stages: Stages,
) -> None:
    shard = await stages.shard()
    devices = [await stages.register() for _ in range(8)]
    epochs = [(await stages.attach(device, shard)).epoch for device in devices]
    for device in devices:
        await stages.sender.send(stages.project, to(device, ttl_ms=3_600_000))
    partitions = {partition_of(device.device_id) for device in devices}
    for partition in partitions:
        assert await stages.leases.partition_acquire(partition, _WORKER, 60_000)
    stages.clock.ahead_ms += 16_000
    async with asyncio.TaskGroup() as tasks:
        for partition in partitions:
            tasks.create_task(stages.redelivery.run_once(partition, _WORKER))
    woken = {hint.device: hint.epoch for hint in await wakes(stages, shard)}
    assert woken == dict(zip((device.device_id for device in devices), epochs, strict=True))
