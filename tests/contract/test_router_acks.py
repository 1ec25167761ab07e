"""What devices say, on its way into a real store, with the store there and away."""

import asyncio

import pytest
import structlog

from router.acks import Acks
from router.model.errors import StoreUnavailableError
from router.model.ids import MessageId
from router.model.mailbox import Ack
from router.model.receipt import Event
from router.registration import Registered
from router.store import keys
from router.store.connection import Store, StoreOptions
from tests.contract.router_stages import Stages, to
from tests.support.valkey import make_store, running_server
from tests.support.waiting import eventually


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


async def pending(stages: Stages, device: Registered) -> int:
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    return known.pending


async def send(stages: Stages, device: Registered, count: int) -> list[MessageId]:
    return [await stages.sender.send(stages.project, to(device)) for _ in range(count)]


async def test_acks_of_several_devices_empty_their_mailboxes(stages: Stages) -> None:
    shard = await stages.shard()
    for number in range(3):
        device = await stages.register()
        attached = await stages.attach(device, shard)
        for seq, message in enumerate(await send(stages, device, number + 1), 1):
            stages.acks.ack(device.device_id, attached.epoch, [Ack(message, seq, 5)])
        await stages.acks.flush()
        assert await pending(stages, device) == 0
    assert stages.acks.kept == 0
    assert stages.count("pushwire_acks_total") == 6


async def test_everything_that_a_session_said_is_kept_together() -> None:
    with running_server() as server:
        async with make_store(StoreOptions(url=server.url, deadline_s=0.1)) as store:
            stages = Stages(store)
            device = await stages.register()
            epoch = (await stages.attach(device, await stages.shard())).epoch
            first, second = await send(stages, device, 2)
            server.pause()
            now_ms = stages.clock.now_ms()
            stages.acks.sent(device.device_id, epoch, [Ack(first, 1, now_ms)])
            await eventually(lambda: stages.acks.kept == 0)  # it is under way
            stages.acks.nack(device.device_id, epoch, second, 2, "busy", now_ms + 9_000)
            stages.acks.engage(device.device_id, epoch, first, Event.OPENED, now_ms)
            await eventually(lambda: stages.acks.kept == 3)
            server.resume()
            async with asyncio.timeout(10):
                await stages.acks.flush()
            assert set(await stages.events(first)) == {"accepted", "sent", "opened"}
            assert set(await stages.events(second)) == {"accepted", "nacked"}


async def test_more_acks_than_one_call_takes(stages: Stages) -> None:
    device = await stages.register()
    attached = await stages.attach(device, await stages.shard())
    sent = await send(stages, device, 300)
    acks = [Ack(message, seq, 0) for seq, message in enumerate(sent, 1)]
    stages.acks.ack(device.device_id, attached.epoch, acks)
    await stages.acks.settle(device.device_id, attached.epoch)
    assert await pending(stages, device) == 0


async def test_an_ack_tells_when_the_message_was_sent(stages: Stages) -> None:
    device = await stages.register()
    attached = await stages.attach(device, await stages.shard())
    (message,) = await send(stages, device, 1)
    now_ms = stages.clock.now_ms()
    stages.acks.ack(device.device_id, attached.epoch, [Ack(message, 1, now_ms)])
    await stages.acks.flush()
    assert await stages.events(message) == ["accepted", "sent", "delivered"]


async def test_a_late_ack_of_an_older_session_changes_nothing(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    old = await stages.attach(device, shard)
    (message,) = await send(stages, device, 1)
    await stages.attach(device, shard)
    stages.acks.ack(device.device_id, old.epoch, [Ack(message, 1, 0)])
    await stages.acks.flush()
    assert await pending(stages, device) == 1


async def test_engagement_is_noted_once(stages: Stages) -> None:
    device = await stages.register()
    attached = await stages.attach(device, await stages.shard())
    (message,) = await send(stages, device, 1)
    for at_ms in (10, 20):
        stages.acks.engage(device.device_id, attached.epoch, message, Event.OPENED, at_ms, "x")
    await stages.acks.flush()
    status = await stages.messages.status(message)
    assert status is not None
    opened = [entry for entry in status.timeline if entry.event is Event.OPENED]
    assert [(entry.time_ms, entry.detail) for entry in opened] == [(10, "x")]


async def test_an_upstream_message_is_stored_for_the_current_session_alone(
    stages: Stages,
) -> None:
    device = await stages.register()
    attached = await stages.attach(device, await stages.shard())
    assert await stages.acks.upstream(device.device_id, attached.epoch, "u1", b"x")
    assert not await stages.acks.upstream(device.device_id, attached.epoch - 1, "u2", b"x")


async def test_acks_outlive_a_store_that_is_away() -> None:
    with running_server("--appendonly", "yes", "--appendfsync", "always") as server:
        async with make_store(StoreOptions(url=server.url, deadline_s=0.2)) as store:
            stages = Stages(store)
            device = await stages.register()
            attached = await stages.attach(device, await stages.shard())
            messages = await send(stages, device, 2)
            server.stop()
            stages.acks.ack(device.device_id, attached.epoch, [Ack(messages[0], 1, 0)])
            with pytest.raises(StoreUnavailableError):
                await stages.acks.settle(device.device_id, attached.epoch)
            await eventually(lambda: stages.acks.kept == 0)  # it is under way
            stages.acks.ack(device.device_id, attached.epoch, [Ack(messages[1], 2, 0)])
            await eventually(lambda: stages.acks.kept == 2)
            with pytest.raises(StoreUnavailableError):
                await stages.acks.upstream(device.device_id, attached.epoch, "u", b"")
            server.start()
            async with asyncio.timeout(10):
                await stages.acks.flush()
            assert await pending(stages, device) == 0
            assert stages.count("pushwire_acks_dropped_total") == 0


async def test_the_oldest_acks_go_when_too_many_wait() -> None:
    with running_server() as server:
        async with make_store(StoreOptions(url=server.url, deadline_s=0.1)) as store:
            stages = Stages(store)
            devices = [await stages.register() for _ in range(4)]
            shard = await stages.shard()
            epochs = [(await stages.attach(device, shard)).epoch for device in devices]
            sent = [(await send(stages, device, 1))[0] for device in devices]
            acks = Acks(stages.mailboxes, stages.metrics, stages.clock.now_ms, limit=3)
            server.pause()
            for device, epoch, message in zip(devices, epochs, sent, strict=True):
                acks.ack(device.device_id, epoch, [Ack(message, 1, 0)])
                assert acks.kept <= 3
            server.resume()
            async with asyncio.timeout(10):
                await acks.flush()
            assert stages.count("pushwire_acks_dropped_total") == 1
            assert [await pending(stages, device) for device in devices] == [1, 0, 0, 0]


async def test_one_broken_mailbox_does_not_stop_the_acks_of_others(stages: Stages) -> None:
    shard = await stages.shard()
    broken, sound = await stages.register(), await stages.register()
    epochs = [(await stages.attach(device, shard)).epoch for device in (broken, sound)]
    messages = [(await send(stages, device, 1))[0] for device in (broken, sound)]
    await stages.store.batch.call("SET", keys.mailbox(broken.device_id), "not a hash")
    for device, epoch, message in zip((broken, sound), epochs, messages, strict=True):
        stages.acks.ack(device.device_id, epoch, [Ack(message, 1, 0)])
    with structlog.testing.capture_logs() as logs:
        await stages.acks.flush()
    assert [line["event"] for line in logs] == ["acks.failed"]
    assert stages.count("pushwire_acks_dropped_total") == 1
    assert await pending(stages, sound) == 0
