"""What sessions tell reaches the store; routes are given up, also after the store was away."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.shard import acks
from gateway.shard.events import Acked, Engaged, Nacked, Sent
from router.model.mailbox import Ack
from router.model.receipt import Event
from router.registration import Registered
from router.store import keys
from tests.support.valkey import Server
from tests.support.waiting import eventually
from tests.unit.shard.parts import Parts


async def attached(parts: Parts) -> tuple[Registered, int]:
    device = await parts.stages.register()
    found = await parts.stages.attach(device, parts.shard)
    return device, found.epoch


async def test_everything_that_a_session_tells_reaches_the_store(parts: Parts) -> None:
    device, epoch = await attached(parts)
    sent = await parts.send(device)
    now_ms = parts.stages.clock.now_ms()
    for told in (
        Sent((Ack(sent, 1, now_ms),)),
        Nacked(sent, 1, "busy", now_ms + 1),
        Acked((Ack(sent, 1, 0),)),
    ):
        parts.ledger.take(device.device_id, epoch, told)
        await parts.ledger.settle(device.device_id, epoch)
    parts.ledger.take(device.device_id, epoch, Engaged(sent, Event.OPENED, now_ms, ""))
    assert await parts.ledger.upstream(device.device_id, epoch, "r", b"{}")
    await parts.ledger.flush()
    assert await parts.pending(device) == 0
    events = await parts.stages.events(sent)
    assert set(events) == {"accepted", "sent", "nacked", "delivered", "opened"}


async def test_an_upstream_message_of_a_stale_session_is_refused(parts: Parts) -> None:
    device, epoch = await attached(parts)
    assert not await parts.ledger.upstream(device.device_id, epoch - 1, "r", b"{}")


# Detaches.


async def test_routes_of_many_sessions_are_given_up_together(parts: Parts) -> None:
    sessions = [await attached(parts) for _ in range(5)]
    for device, epoch in sessions:
        parts.ledger.detach(device.device_id, epoch)
    assert parts.ledger.waiting == 5
    await parts.ledger.flush()
    assert parts.ledger.waiting == 0
    assert not any([await parts.connected(device) for device, _ in sessions])


async def test_a_late_detach_of_an_older_session_changes_nothing(parts: Parts) -> None:
    device, epoch = await attached(parts)
    await parts.stages.attach(device, parts.shard)
    parts.ledger.detach(device.device_id, epoch)
    await parts.ledger.flush()
    assert await parts.connected(device)


async def test_of_two_detaches_of_a_device_the_newer_counts(parts: Parts) -> None:
    device, epoch = await attached(parts)
    parts.ledger.detach(device.device_id, epoch)
    parts.ledger.detach(device.device_id, epoch - 1)
    assert parts.ledger.waiting == 1
    await parts.ledger.flush()
    assert not await parts.connected(device)


async def test_detaches_that_wait_are_bounded_and_the_oldest_go(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "MAX_DETACHES", 2)
    sessions = [await attached(parts) for _ in range(3)]
    for device, epoch in sessions:
        parts.ledger.detach(device.device_id, epoch)
    assert parts.ledger.waiting == 2
    await parts.ledger.flush()
    assert [await parts.connected(device) for device, _ in sessions] == [True, False, False]


async def test_a_detach_that_the_store_refuses_is_told_and_not_tried_again(parts: Parts) -> None:
    device, epoch = await attached(parts)
    other, other_epoch = await attached(parts)
    batch = parts.stages.store.batch
    await batch.call("DEL", keys.mailbox(device.device_id))
    await batch.call("SET", keys.mailbox(device.device_id), "nonsense")
    with capture_logs() as logs:
        parts.ledger.detach(device.device_id, epoch)
        parts.ledger.detach(other.device_id, other_epoch)
        await parts.ledger.flush()
    assert [entry["event"] for entry in logs] == ["detach.refused"]
    assert parts.ledger.waiting == 0
    assert not await parts.connected(other)
    await batch.call("DEL", keys.mailbox(device.device_id))


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_detaches_wait_for_a_store_that_is_away(wounded: tuple[Parts, Server]) -> None:
    parts, server = wounded
    device, epoch = await attached(parts)
    server.pause()
    with capture_logs() as logs:
        parts.ledger.detach(device.device_id, epoch)
        await eventually(lambda: logs)
    assert [entry["event"] for entry in logs] == ["detaches.kept"]
    assert parts.ledger.waiting == 1
    server.resume()
    await parts.ledger.flush()
    assert parts.ledger.waiting == 0
    assert not await parts.connected(device)


async def test_a_ledger_that_is_stopped_forgets_what_waits(parts: Parts) -> None:
    device, epoch = await attached(parts)
    parts.ledger.stop()
    parts.ledger.detach(device.device_id, epoch)
    await asyncio.sleep(0)
    parts.ledger.stop()
    await eventually(lambda: parts.ledger._task is None)
    assert await parts.connected(device)
