"""Jobs of bridges: from the timer that accepts a message to what became of it."""

import os
from collections.abc import AsyncIterator

import pytest

from router.model.device import NO_CONTACT, Contact
from router.model.ids import ENTROPY_BYTES, kept_as, new_cast_id
from router.model.mailbox import EnqueueResult
from router.store.bridge_jobs import Bridged, Failed, Head, Lane, Later
from router.store.connection import Store
from tests.store.bridge_world import ACK_MS, ADDRESS, AFTER, BRIDGE, NOW, WORKER, World


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    made = World(store)
    yield made
    await made.leases.partition_release(made.partition, WORKER)


async def test_a_message_for_an_absent_device_is_a_job_at_once(world: World) -> None:
    await world.register()
    sent = await world.send(message=world.message())
    assert (sent.seq, sent.route) == (1, None)
    assert await world.ready() == [world.lane]
    assert await world.due(NOW + 60_000) == []
    assert await world.jobs.waiting(world.partition) == [(world.lane, Head(2, NOW))]
    (job,) = await world.take()
    assert (job.message, job.kept, job.device) == (sent.message, sent.message, world.device)
    assert (job.address, job.registered_ms) == (ADDRESS, NOW - 5)
    assert (job.frame, job.part, job.seq, job.attempts) == (b"frame", b"part", 1, 0)
    assert (job.lane, job.ready_ms, job.topic, job.history) == (2, NOW, False, ())
    assert await world.jobs.waiting(world.partition) == []


async def test_a_connected_device_has_time_to_ack(world: World) -> None:
    await world.register()
    await world.connect()
    sent = await world.send()
    assert sent.route is not None
    assert await world.due(NOW + AFTER - 1) == []
    assert await world.due(NOW + AFTER) == [sent.message]
    await world.ack(sent)
    assert await world.due(NOW + AFTER) == []
    assert await world.events(sent.message) == ["accepted", "delivered"]
    assert not await world.fields(sent.message)


async def test_a_device_without_a_bridge_has_no_jobs(world: World) -> None:
    await world.register(bridge="")
    sent = await world.send()
    assert sent.seq == 1
    assert await world.due(NOW + 60_000) == []
    assert not await world.fields(sent.message)


async def test_a_message_that_no_bridge_may_carry_is_no_job(world: World) -> None:
    await world.register()
    sent = await world.send(bridge="")
    assert sent.seq == 1
    assert await world.due(NOW + 60_000) == []


async def test_an_acked_message_falls_out_of_the_queue(world: World) -> None:
    await world.register()
    sent, kept = await world.send(), await world.send()
    assert await world.ready() == [world.lane, world.lane]
    await world.connect()
    await world.ack(sent)
    assert [job.message for job in await world.take()] == [kept.message]
    assert await world.events(sent.message) == ["accepted", "delivered"]


async def test_a_bridged_message_stays_in_its_mailbox_and_is_bridged_once(world: World) -> None:
    await world.register()
    sent = await world.send()
    await world.ready()
    (job,) = await world.take()
    for _ in range(2):
        await world.jobs.bridged(world.partition, [Bridged(job.kept, "id|1", NOW + 1)])
    assert await world.events(sent.message) == ["accepted", "bridged: id|1"]
    assert await world.due(NOW + 60_000) == []
    assert not await world.fields(sent.message)
    await world.connect()
    await world.ack(sent)
    assert (await world.events(sent.message))[-1] in {"delivered", "bridged: id|1"}
    status = await world.messages.status(sent.message)
    assert status is not None
    assert status.state.value == "delivered"


async def test_who_acked_meanwhile_is_not_told_to_be_bridged(world: World) -> None:
    await world.register()
    sent = await world.send()
    await world.ready()
    (job,) = await world.take()
    await world.connect()
    await world.ack(sent)
    await world.jobs.bridged(world.partition, [Bridged(job.kept, "", NOW + 1)])
    await world.jobs.failed(world.partition, [Failed(job.kept, "no", NOW + 1)])
    await world.jobs.later(world.partition, [Later(job.kept, NOW + 2, "no", True)], NOW + 1)
    assert await world.events(sent.message) == ["accepted", "delivered"]
    assert await world.due(NOW + 60_000) == []


async def test_a_job_comes_back_when_its_worker_died(world: World) -> None:
    await world.register()
    await world.send()
    await world.ready()
    (job,) = await world.take(hold_ms=30_000)
    assert await world.take() == []
    assert await world.ready(NOW + 29_999) == []
    assert await world.ready(NOW + 30_000) == [world.lane]
    (again,) = await world.take(NOW + 30_000)
    assert again.kept == job.kept


async def test_who_lost_the_partition_gets_nothing(world: World) -> None:
    await world.register()
    await world.send()
    await world.ready()
    taken = await world.jobs.take(world.partition, world.lane, "other", 10, NOW, 1_000)
    assert taken == ([], None)
    assert len(await world.take()) == 1


async def test_a_job_is_tried_again_later_and_knows_its_tries(world: World) -> None:
    await world.register()
    sent = await world.send()
    await world.ready()
    (job,) = await world.take()
    for at in range(7):
        again = [Later(job.kept, NOW + 100, f'"{at}"', at != 6)]
        await world.jobs.later(world.partition, again, NOW + at)
        await world.jobs.later(world.partition, again, NOW + at)
    assert await world.ready(NOW + 99) == []
    assert await world.ready(NOW + 100) == [world.lane]
    (job,) = await world.take(NOW + 100)
    assert job.attempts == 6
    assert [(one.time, one.reason) for one in job.history] == [
        (NOW + at, f'"{at}"') for at in range(2, 7)
    ]
    assert await world.events(sent.message) == ["accepted"]


async def test_what_a_bridge_gave_up_may_yet_be_delivered_or_tried_again(world: World) -> None:
    await world.register()
    sent = await world.send()
    await world.ready()
    (job,) = await world.take()
    for _ in range(2):
        await world.jobs.failed(world.partition, [Failed(job.kept, "PayloadEmpty", NOW)])
    assert await world.events(sent.message) == ["accepted", "failed: PayloadEmpty"]
    assert await world.due(NOW + 60_000) == []
    assert await world.jobs.again(job.kept, NOW + 1)
    assert await world.ready(NOW + 1) == [world.lane]
    (job,) = await world.take(NOW + 1)
    assert (job.attempts, job.frame, job.part) == (0, b"frame", b"part")
    await world.jobs.bridged(world.partition, [Bridged(job.kept, "", NOW + 2)])
    assert not await world.jobs.again(job.kept, NOW + 3)
    assert await world.events(sent.message) == ["accepted", "failed: PayloadEmpty", "bridged"]


async def test_queues_give_the_most_urgent_first_and_then_the_oldest(world: World) -> None:
    await world.register()
    sent = {lane: await world.send(bridge=f"{lane}|0") for lane in (3, 2, 0, 1)}
    await world.ready()
    taken = await world.taken(most=2)
    assert [job.lane for job in taken.jobs] == [0, 1]
    assert taken.head == Head(2, NOW)
    assert [job.message for job in await world.take()] == [sent[2].message, sent[3].message]


async def test_only_never_enters_a_mailbox_nor_takes_a_route(world: World) -> None:
    await world.register()
    await world.connect()
    sent = await world.send(bridge="1|o")
    assert (sent.seq, sent.route) == (0, None)
    assert (await world.mailboxes.fetch(world.device, world.epoch, 0, NOW, 10)).messages == ()  # type: ignore[union-attr]
    assert await world.ready() == [world.lane]
    (job,) = await world.take()
    assert (job.frame, job.part, job.seq) == (b"frame", b"part", 0)
    await world.jobs.bridged(world.partition, [Bridged(job.kept, "x", NOW)])
    assert await world.events(sent.message) == ["accepted", "bridged: x"]
    assert not await world.fields(sent.message)
    await world.mailboxes.lapse(sent.message, NOW + 60_000)
    assert await world.events(sent.message) == ["accepted", "bridged: x"]


async def test_only_without_a_bridge_fails_at_once(world: World) -> None:
    await world.register(bridge="")
    await world.connect()
    sent = await world.send(bridge="1|o")
    assert (sent.seq, sent.route) == (0, None)
    assert await world.events(sent.message) == ["accepted", "failed: no bridge"]


async def test_only_fails_where_the_bridge_went_meanwhile(world: World) -> None:
    await world.register()
    sent = await world.send(bridge="1|o")
    await world.mailboxes.update(world.device, world.project, {}, NOW, NO_CONTACT)
    assert await world.ready() == [None]
    assert await world.events(sent.message) == ["accepted", "failed: no bridge"]


async def test_only_lapses_where_no_bridge_carries_it_in_time(world: World) -> None:
    await world.register()
    sent = await world.send(bridge="1|o")
    await world.ready()
    await world.mailboxes.lapse(sent.message, NOW + 60_000)
    assert await world.take(NOW + 60_000) == []
    assert await world.events(sent.message) == ["accepted", "expired: not bridged"]
    assert not await world.fields(sent.message)


async def test_only_can_be_taken_back(world: World) -> None:
    await world.register()
    sent = await world.send(bridge="1|o")
    await world.ready()
    await world.mailboxes.cancel(sent.message, world.project, NOW)
    assert await world.take() == []
    assert await world.events(sent.message) == ["accepted", "cancelled"]


async def test_now_or_never_is_bridged_where_nobody_is_connected(world: World) -> None:
    await world.register()
    sent = await world.send(ttl_ms=0)
    assert (sent.seq, sent.route) == (0, None)
    await world.ready()
    (job,) = await world.take()
    assert job.frame == b"frame"
    await world.jobs.failed(world.partition, [Failed(job.kept, "gone", NOW)])
    assert await world.events(sent.message) == ["accepted", "failed: gone"]
    assert not await world.jobs.again(job.kept, NOW)


async def test_now_or_never_of_a_connected_device_is_bridged_before_it_lapses(
    world: World,
) -> None:
    await world.register()
    await world.connect()
    early, late = await world.send(ttl_ms=0), await world.send(f"2|{ACK_MS}", ttl_ms=0)
    assert early.route is not None
    assert await world.due(NOW + ACK_MS) == [early.message]
    assert not await world.fields(late.message)
    await world.mailboxes.lapse(late.message, NOW + ACK_MS)
    assert await world.events(late.message) == ["accepted", "expired: not acked"]


async def test_now_or_never_without_a_bridge_expires_as_before(world: World) -> None:
    await world.register(bridge="")
    sent = await world.send(ttl_ms=0)
    assert await world.events(sent.message) == ["accepted", "expired: not connected"]


@pytest.mark.parametrize("send_at_ms", [0, NOW + 1_000])
async def test_a_message_that_the_devices_bridge_cannot_carry_is_refused(
    world: World, send_at_ms: int
) -> None:
    await world.register()
    message = world.message()
    refused = await world.send(message=message, unfit="fcm apns", send_at_ms=send_at_ms)
    assert (refused.result, refused.bridge) == (EnqueueResult.UNFIT, BRIDGE)
    assert await world.messages.status(message) is None
    sent = await world.send(message=message, unfit="fcm apnsx", send_at_ms=send_at_ms)
    assert sent.result is EnqueueResult.ACCEPTED
    repeated = await world.send(message=message, unfit="fcm apns", send_at_ms=send_at_ms)
    assert repeated.result is EnqueueResult.ACCEPTED


@pytest.mark.parametrize("policy", [f"1|{AFTER}", "1|o"])
async def test_a_scheduled_message_is_bridged_when_it_is_due(world: World, policy: str) -> None:
    await world.register()
    at = NOW + 1_000
    sent = await world.send(policy, send_at_ms=at)
    assert await world.fields(sent.message) == {"f", "bb", "bp"}
    assert await world.due(at) == []
    assert await world.mailboxes.release(sent.message, at) is not None
    assert await world.ready(at) == [world.lane]
    (job,) = await world.take(at)
    assert (job.frame, job.part, job.lane, job.ready_ms) == (b"frame", b"part", 1, at)


async def test_a_scheduled_only_without_a_bridge_fails_when_it_is_due(world: World) -> None:
    await world.register(bridge="")
    sent = await world.send("1|o", send_at_ms=NOW + 1_000)
    assert await world.mailboxes.release(sent.message, NOW + 1_000) is None
    assert await world.events(sent.message) == ["scheduled", "accepted", "failed: no bridge"]


async def test_the_copy_of_a_message_to_many_is_a_job(world: World) -> None:
    await world.register()
    cast = new_cast_id(world.partition, NOW, os.urandom(ENTROPY_BYTES))
    kept = kept_as(cast, world.device)
    await world.send(message=kept)
    assert await world.ready() == [world.lane]
    (job,) = await world.take()
    assert (job.message, job.kept) == (cast, kept)
    await world.jobs.bridged(world.partition, [Bridged(job.kept, "", NOW)])
    assert await world.events(kept) == ["accepted", "bridged"]


async def test_who_wants_a_message_later_is_not_bridged_before(world: World) -> None:
    await world.register()
    await world.connect()
    sent = await world.send()
    until = NOW + 2 * AFTER
    await world.mailboxes.nack(
        world.device, world.epoch, sent.message, sent.seq, "busy", until, NOW
    )
    assert await world.ready(NOW + AFTER) == [None]
    assert await world.due(until - 1) == []
    assert await world.ready(until) == [world.lane]


async def test_a_job_follows_its_device_to_another_bridge(world: World) -> None:
    await world.register()
    await world.send()
    await world.ready()
    other = Contact("fcm", "{}", NOW, NOW + 5)
    await world.mailboxes.update(world.device, world.project, {}, NOW, other)
    assert await world.take() == []
    lane = Lane(world.project, "fcm")
    assert await world.jobs.waiting(world.partition) == [(lane, Head(2, NOW))]
    taken = await world.jobs.take(world.partition, lane, WORKER, 10, NOW, 1_000)
    assert [job.br for job in taken.jobs] == [other.field.encode()]


async def test_an_address_goes_only_while_it_is_the_devices(world: World) -> None:
    await world.register()
    old = await world.mailboxes.bridge_of(world.device)
    await world.mailboxes.update(
        world.device, world.project, {}, NOW, Contact(BRIDGE, ADDRESS, NOW, NOW + 5)
    )
    assert not await world.jobs.drop_address(world.device, old, "410", NOW)
    new = await world.mailboxes.bridge_of(world.device)
    assert await world.jobs.drop_address(world.device, new, "410", NOW)
    assert not await world.jobs.drop_address(world.device, new, "410", NOW)
    assert await world.mailboxes.bridge_of(world.device) == b""
    device = await world.mailboxes.device(world.device)
    assert device is not None
    assert (device.bridge, device.bridge_since_ms) == ("", 0)


async def test_jobs_of_a_device_that_went_are_dropped(world: World) -> None:
    await world.register()
    only, stored = await world.send("2|o"), await world.send()
    known, _, br = await world.mailboxes.unregister(world.device, world.project, NOW)
    assert (known, br) == (True, Contact(BRIDGE, ADDRESS, NOW - 5, 1).field.encode())
    assert await world.ready() == [None, None]
    for message in (only.message, stored.message):
        assert await world.events(message) == ["accepted", "dropped: unregistered"]


async def test_more_than_a_window_is_taken_in_pieces(world: World) -> None:
    await world.register()
    for _ in range(150):
        await world.send()
    for _ in range(2):
        await world.ready()
    first, second = await world.taken(most=1_000), await world.taken(most=1_000)
    assert (len(first.jobs), first.head, len(second.jobs), second.head) == (
        *(128, Head(2, NOW)),
        *(22, None),
    )
    done = [Bridged(job.kept, "", NOW) for job in first.jobs + second.jobs]
    await world.jobs.bridged(world.partition, done)
    assert await world.due(NOW + 60_000) == []
