"""From the inbox in the store to the sessions."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.shard.inbox import read_inbox
from router.model.hint import Unregister
from router.model.ids import DeviceId
from tests.support.valkey import Server
from tests.support.waiting import eventually
from tests.unit.shard.parts import Parts


@pytest.fixture
async def reading(parts: Parts) -> AsyncIterator[Parts]:
    stages = parts.stages
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(
            read_inbox(stages.inboxes, parts.registry, stages.metrics, stages.clock.now_ms)
        )
        yield parts
        reader.cancel()


async def test_a_message_goes_the_whole_way(reading: Parts) -> None:
    device, socket = await reading.device()
    sent = [str(await reading.send(device)) for _ in range(3)]
    await eventually(lambda: len(socket.messages()) == 3)
    assert socket.messages() == sent
    socket.says(op="ack", ids=sent)
    await reading.ledger.flush()
    assert await reading.pending(device) == 0
    assert reading.stages.count("pushwire_inbox_lag_seconds_count", priority="normal") >= 1


async def test_hints_are_for_the_devices_that_they_name(reading: Parts) -> None:
    device, socket = await reading.device()
    _, other = await reading.device()
    hints = [Unregister(DeviceId("n" * 16), 1)]
    assert await reading.stages.inboxes.append(reading.shard, hints)
    await reading.stages.registration.unregister(reading.stages.project, device.device_id)
    assert await socket.closed() == 4003
    assert other.connection.open


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_the_inbox_is_read_on_after_the_store_was_gone(
    wounded: tuple[Parts, Server],
) -> None:
    parts, server = wounded
    stages = parts.stages
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(
            read_inbox(stages.inboxes, parts.registry, stages.metrics, stages.clock.now_ms)
        )
        device, socket = await parts.device()
        server.stop()
        server.start()
        await stages.store.ping()
        await stages.inboxes.open(parts.shard)
        hint = Unregister(device.device_id, socket.connection.session.epoch)
        assert await stages.inboxes.append(parts.shard, [hint])
        assert await socket.closed() == 4003
        reader.cancel()
