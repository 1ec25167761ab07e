"""Messages to topics, conditions and filters reach the devices that only a bridge reaches, once."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from router.contacts import NO_REACH
from router.model.ids import (
    BROADCAST,
    DeviceId,
    MessageId,
    partition_of,
    partition_of_message,
)
from router.model.message import BridgeMode, BridgePolicy, ReceiptMode
from router.model.selection import Filter, Selection
from router.model.topic import TopicEnvelope
from router.registration import DeviceChanges, DeviceSpec, Registered
from router.store import keys
from router.store.bridge_jobs import Bridged, Failed
from router.store.connection import Store
from router.store.devices import text
from router.store.topics import Cursor
from tests.contract.walks import NEWS, World
from tests.support.bridges import APNS_TOKEN
from tests.support.valkey import opened_store, running_server, wall_ms
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
SETTLED_MS = 11_000
"""When acks of topics are noted, and the time to ack is over."""


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


async def test_every_subscriber_with_a_bridge_gets_one_job(world: World) -> None:
    devices = sorted([(await world.device(NEWS)).device_id for _ in range(12)])
    await world.device(NEWS, bridge=False)
    await world.device("other")
    message = await world.publish()
    assert await world.reached(message) == devices
    assert await world.reached(message) == []
    await world.device(NEWS)
    assert await world.reached(message) == []


async def test_a_job_carries_what_was_published(world: World) -> None:
    await world.device(NEWS)
    message = await world.publish()
    await world.walk(message)
    (job,) = await world.jobs(message)
    log = await world.topics.read(world.stages.project, NEWS, 0)
    assert (job.topic, job.frame, job.kept) == (
        *(True, log.entries[0].frame),
        f"{message}.{job.device}",
    )


async def test_a_topic_without_bridged_devices_is_not_walked_over(world: World) -> None:
    await world.device(NEWS, bridge=False)
    assert await world.is_walked(await world.publish())
    await world.device(NEWS)
    assert not await world.is_walked(await world.publish())
    never = BridgePolicy(BridgeMode.NEVER)
    assert await world.is_walked(await world.publish(bridge=never))


async def test_who_gets_a_bridge_later_is_reached_by_its_topics(world: World) -> None:
    device = (await world.device(NEWS, bridge=False)).device_id
    stages = world.stages
    raw = {"type": "apns", "token": APNS_TOKEN}
    reach = await stages.contacts.read(stages.project, raw)
    await stages.registration.update(stages.project, device, DeviceChanges(), reach)
    await world.reach(device)
    assert await world.reached(await world.publish()) == [device]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["unsubscribes", "unregisters", "loses its bridge"])
async def test_who_does_not_want_it_any_more_gets_nothing(
    world: World, when: str, what: str
) -> None:
    device, stages = await world.device(NEWS), world.stages
    message = await world.publish()
    if when == "after":
        await world.walk(message)
    if what == "unsubscribes":
        await world.subscription.change_tokens(
            stages.project, NEWS, [device.token], subscribe=False
        )
    elif what == "unregisters":
        await stages.registration.unregister(stages.project, device.device_id)
    else:
        changes = DeviceChanges()
        await stages.registration.update(stages.project, device.device_id, changes, NO_REACH)
    assert await world.reached(message) == []
    assert await world.timers(message) == {}


async def connected(world: World, *topics: str) -> tuple[Registered, int]:
    device = await world.device(*topics)
    attached = await world.stages.attach(device, await world.stages.shard())
    return device, attached.epoch


async def test_a_connected_device_has_time_to_ack(world: World) -> None:
    acked, epoch = await connected(world, NEWS)
    silent, _ = await connected(world, NEWS)
    message = await world.publish(bridge=BridgePolicy(after_s=0))
    begun_ms = world.stages.clock.now_ms()
    await world.walk(message)
    timers = await world.timers(message)
    assert set(timers) == {acked.device_id, silent.device_id}
    assert min(timers.values()) >= begun_ms + 6_000
    seq = (await world.topics.heads(world.stages.project, [NEWS]))[NEWS]
    await world.topics.save_cursors([Cursor(acked.device_id, epoch, NEWS, seq)])
    assert await world.reached(message, SETTLED_MS) == [silent.device_id]


async def test_who_acked_while_its_job_waited_is_not_bridged(world: World) -> None:
    device = await world.device(NEWS)
    message = await world.publish()
    await world.walk(message)
    attached = await world.stages.attach(device, await world.stages.shard())
    seq = (await world.topics.heads(world.stages.project, [NEWS]))[NEWS]
    await world.topics.save_cursors([Cursor(device.device_id, attached.epoch, NEWS, seq)])
    assert await world.jobs(message) == []


async def test_now_or_never_goes_to_those_who_are_not_connected(world: World) -> None:
    device = await world.device(NEWS)
    await connected(world, NEWS)
    message = await world.publish(ttl_ms=0)
    await world.stages.mailboxes.lapse(message, world.stages.clock.now_ms())
    assert await world.reached(message) == [device.device_id]
    status = await world.stages.messages.status(message)
    assert status is not None
    assert status.state.value == "expired"


async def test_only_is_in_no_log_and_told_to_no_shard(world: World) -> None:
    device, _ = await connected(world, NEWS)
    shard = await world.stages.shard()
    await world.topics.follow(world.stages.project, NEWS, shard)
    message = await world.publish(bridge=BridgePolicy(BridgeMode.ONLY))
    assert await world.stages.published(shard) == []
    assert (await world.topics.read(world.stages.project, NEWS, 0)).entries == ()
    await world.walk(message)
    (job,) = await world.jobs(message)
    assert (job.device, job.seq) == (device.device_id, 0)
    assert b"k" in job.frame
    envelope = TopicEnvelope(
        *(world.stages.project, NEWS, message, job.frame, job.ready_ms, job.ready_ms + 600_000),
        bridge="2|o",
    )
    again = world.topics.published(envelope, await world.topics.begin_publish(envelope))
    assert (again.seq, again.shards) == (0, ())


@pytest.mark.parametrize("mode", [BridgeMode.AUTO, BridgeMode.ONLY])
async def test_what_was_taken_back_is_given_to_nobody(world: World, mode: BridgeMode) -> None:
    await world.device(NEWS)
    walked, fresh = [await world.publish(bridge=BridgePolicy(mode)) for _ in range(2)]
    await world.walk(walked)
    for message in (walked, fresh):
        found = await world.publisher.retract(world.stages.project, message)
        assert found is not None
        assert found.state.value == "cancelled"
        assert await world.reached(message) == []


async def test_a_scheduled_message_is_walked_when_it_is_due(world: World) -> None:
    device = await world.device(NEWS)
    at = world.stages.clock.now_ms() + 5_000
    message = await world.publish(send_at_ms=at)
    assert await world.is_walked(message)
    world.stages.clock.ahead_ms += 6_000
    await world.stages.issuer.issue(message, world.stages.clock.now_ms())
    assert await world.reached(message) == [device.device_id]


async def test_conditions_and_filters_hold_for_bridges_too(world: World) -> None:
    both = await world.device("a", "b", language="de")
    one = await world.device("a", language="en")
    await world.device("b", language="en")
    condition = Selection(condition="'a' in topics && 'b' in topics")
    assert await world.reached(await world.broadcast(condition)) == [both.device_id]
    wanted = Selection("'a' in topics", Filter(language=("en",)))
    assert await world.reached(await world.broadcast(wanted)) == [one.device_id]
    without = Selection(condition="'a' in topics && !('b' in topics)")
    assert await world.reached(await world.broadcast(without)) == [one.device_id]
    narrowed = await world.publish("a", selection=Selection(filter=Filter(language=("de",))))
    assert await world.reached(narrowed) == [both.device_id]
    late = await world.broadcast(Selection(filter=Filter(platform=("ios",))))
    seq = (await world.topics.heads(world.stages.project, [BROADCAST]))[BROADCAST]
    await eventually(lambda: wall_ms() > seq)
    await world.device("a", "b")
    assert len(await world.reached(late)) == 3


@pytest.mark.parametrize("receipts", [ReceiptMode.AGGREGATE, ReceiptMode.DEVICE, ReceiptMode.NONE])
async def test_what_became_of_jobs_is_counted(world: World, receipts: ReceiptMode) -> None:
    for _ in range(3):
        await world.device(NEWS)
    message = await world.publish(receipts=receipts)
    await world.walk(message)
    first, second, third = await world.jobs(message)
    now_ms = world.stages.clock.now_ms()
    jobs = world.stages.jobs
    for _ in range(2):
        for job in (first, second):
            done = [Bridged(job.kept, "id", now_ms)]
            await jobs.bridged(partition_of(job.device), done)
        await jobs.failed(partition_of(third.device), [Failed(third.kept, "no", now_ms)])
    expected = {"bridged": 2, "failed": 1}
    assert await world.counts(message) == ({} if receipts is ReceiptMode.NONE else expected)
    assert await world.timers(message) == {}
    told = await world.stages.messages.receivers(message)
    assert len(told) == (3 if receipts is ReceiptMode.DEVICE else 0)
    assert await jobs.again(third.kept, now_ms)
    assert not await jobs.again(first.kept, now_ms)
    assert [job.device for job in await world.jobs(message)] == [third.device]


@pytest.mark.parametrize("event", ["bridged", "failed"])
async def test_a_call_whose_answer_was_lost_counts_when_it_is_made_again(
    world: World, event: str
) -> None:
    await world.device(NEWS)
    message = await world.publish(receipts=ReceiptMode.AGGREGATE)
    await world.walk(message)
    (job,) = await world.jobs(message)
    now_ms, partition = world.stages.clock.now_ms(), partition_of(job.device)
    store, jobs = world.stages.store, world.stages.jobs
    name, said = {
        "bridged": ("bridge_done", ("id", now_ms)),
        "failed": ("bridge_failed", ("no", now_ms, 0)),
    }[event]
    await store.batch.fcall(
        store.library.function(name),
        (keys.timers(partition), keys.outbox(partition), keys.message(MessageId(job.kept))),
        (store.options.retention_ms, job.kept, *said),
    )
    assert await world.counts(message) == {}
    for _ in range(2):
        if event == "bridged":
            await jobs.bridged(partition, [Bridged(job.kept, "id", now_ms)])
        else:
            await jobs.failed(partition, [Failed(job.kept, "no", now_ms)])
        assert await world.counts(message) == {event: 1}
    # Another worker had it too.
    await jobs.bridged(partition, [Bridged(job.kept, "id", now_ms + 1)])
    if event == "bridged":
        assert await world.counts(message) == {event: 1}


CHILD = """
import asyncio, sys
from router.store.walks import Walks
from router.walk import BridgeWalks
from tests.support.valkey import opened_store, wall_ms

async def main(url, message):
    async with opened_store(url) as store:
        walks = BridgeWalks(Walks(store))
        while True:
            await walks.step(message, wall_ms())
            print("stepped", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_message_that_ends_while_it_is_walked_reaches_nobody_more(world: World) -> None:
    devices = {(await world.device(NEWS)).device_id for _ in range(40)}
    message = await world.publish(ttl_ms=60_000)
    await world.walks.step(message, world.stages.clock.now_ms())
    reached = set(await world.timers(message))
    assert reached
    assert reached < devices
    world.stages.clock.ahead_ms += 61_000
    assert await world.reached(message) == []
    assert await world.timers(message) == {}


async def test_two_workers_that_walk_at_once_give_each_device_one_job(world: World) -> None:
    devices = sorted([(await world.device(NEWS)).device_id for _ in range(60)])
    message = await world.publish()
    await asyncio.gather(*(world.walk(message) for _ in range(3)))
    assert sorted(job.device for job in await world.jobs(message)) == devices


async def test_devices_of_one_address_are_one_when_a_topic_is_walked(world: World) -> None:
    stages, made = world.stages, []
    raw = {"type": "apns", "token": "77" * 32}
    for _ in range(3):
        reach = await stages.contacts.read(stages.project, raw)
        spec = DeviceSpec(platform="ios")
        made.append(await stages.registration.register(stages.project, spec, reach=reach))
        await world.subscription.change_tokens(
            stages.project, NEWS, [made[-1].token], subscribe=True
        )
        await world.reach(made[-1].device_id)
    assert await world.reached(await world.publish()) == [made[-1].device_id]


async def test_who_subscribes_while_a_message_is_walked_does_not_get_it(world: World) -> None:
    before = [(await world.device(NEWS)).device_id for _ in range(40)]
    message = await world.publish()
    await world.walks.step(message, world.stages.clock.now_ms())
    for _ in range(10):
        await world.device(NEWS)
    assert await world.reached(message) == sorted(before)


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_a_walk_whose_worker_is_killed_misses_nobody_and_takes_nobody_twice(
    world: World, store_url: str
) -> None:
    devices = [DeviceId(f"walked-{number:08d}-{os.urandom(4).hex()}") for number in range(600)]
    template = await world.device(NEWS)
    await _copy(world, template.device_id, devices)
    message = await world.publish()
    for _ in range(2):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD, store_url, message),
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert child.stdout is not None
        assert await child.stdout.readline() == b"stepped\n"
        child.kill()
        await child.communicate()
    expected = sorted([template.device_id, *devices])
    await world.walk(message)
    # One that comes late begins it anew.
    timers = keys.timers(partition_of_message(message))
    await world.stages.store.batch.call("ZADD", timers, 0, f"walk:{message}")
    await world.walk(message)
    jobs = [job.device for _ in range(3) for job in await world.jobs(message)]
    assert sorted(jobs) == expected


@pytest.mark.slow
async def test_a_walk_goes_on_after_a_restart_of_the_store_and_misses_nobody() -> None:
    with running_server("--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened_store(server.url, deadline_s=20.0) as store:
            world = World(store)
            template = (await world.device(NEWS)).device_id
            ids = (DeviceId(f"restarted-{number:08d}") for number in range(200_000))
            devices = [one for one in ids if partition_of(one) == "07"]
            await _copy(world, template, devices)
            message = await world.publish()
            place = ""
            while not place.startswith("07|"):
                await world.walks.step(message, world.stages.clock.now_ms())
                place = text(await store.batch.call("HGET", keys.message(message), "bw"))
            assert place.split("|")[1], "it is in the middle of a partition"
            server.stop()
            server.start()
            await world.walk(message)
            assert set(await world.timers(message)) == {template, *devices}


async def _copy(world: World, template: DeviceId, devices: list[DeviceId]) -> None:
    """Subscribe many devices with bridges: as `template` is, without a call for each step."""
    batch = world.stages.store.batch
    mailbox: Any = await batch.call("HGETALL", keys.mailbox(template))
    for start in range(0, len(devices), 500):
        calls = []
        for device in devices[start : start + 500]:
            calls.append(batch.call("HSET", keys.mailbox(device), *mailbox))
            bridged = keys.bridged(partition_of(device), world.stages.project, NEWS)
            calls.append(batch.call("SADD", bridged, device))
        for call in calls:
            await call
