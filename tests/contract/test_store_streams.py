"""Inboxes, outboxes, leases, timers and projects on a real server."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

import pytest

from router.model.device import Device
from router.model.hint import AnyHint, Displace, Wake
from router.model.ids import (
    ENTROPY_BYTES,
    DeviceId,
    Partition,
    ProjectId,
    ShardId,
    new_device_id,
    new_message_id,
    partition_of,
)
from router.model.mailbox import Ack, Envelope
from router.model.project import ApiKey, Project, Scope, ServiceAccount
from router.model.receipt import Event
from router.store import keys
from router.store.connection import Store
from router.store.inbox import Inboxes
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.outbox import Outbox
from router.store.projects import AccessToken, Projects
from router.store.timers import Timers
from tests.support.valkey import Server, opened_store, running_server, wall_ms
from tests.support.waiting import eventually

PROJECT = ProjectId("demo")


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server("--appendonly", "yes") as running:
        yield running


def unique(prefix: str) -> str:
    return f"{prefix}-{os.urandom(6).hex()}"


def envelope(device: DeviceId, now_ms: int) -> Envelope:
    partition = partition_of(device)
    message = new_message_id(partition, now_ms, os.urandom(ENTROPY_BYTES))
    return Envelope(PROJECT, partition, device, "n" * 16, message, b"f", now_ms, now_ms + 60_000)


async def registered(mailboxes: Mailboxes) -> DeviceId:
    device = new_device_id(os.urandom(ENTROPY_BYTES))
    assert await mailboxes.register(Device(device, PROJECT, "python"), "n" * 16, "h", 1)
    return device


async def take(inboxes: Inboxes, shard: ShardId, count: int) -> list[AnyHint]:
    found: list[AnyHint] = []
    async with asyncio.timeout(10), contextlib.aclosing(inboxes.reader(shard)) as reader:
        async for at_ms, hints in reader:
            assert abs(at_ms - wall_ms()) < 60_000
            found += hints
            if len(found) >= count:
                break
    return found


async def test_hints_come_out_of_an_inbox_in_order(store: Store) -> None:
    inboxes, shard = Inboxes(store), ShardId(unique("s"))
    device = DeviceId("d" * 16)
    await inboxes.open(shard)
    assert await inboxes.append(shard, [Wake(device, 1), Wake(device, 2)])
    assert await inboxes.append(shard, [Displace(device, 3)])
    assert await take(inboxes, shard, 3) == [Wake(device, 1), Wake(device, 2), Displace(device, 3)]


async def test_hints_for_a_shard_that_is_gone_are_lost_and_leave_nothing(store: Store) -> None:
    inboxes, shard = Inboxes(store), ShardId(unique("s"))
    assert not await inboxes.append(shard, [Wake(DeviceId("d" * 16), 1)])
    await inboxes.open(shard)
    await inboxes.close(shard)
    assert not await inboxes.append(shard, [Wake(DeviceId("d" * 16), 1)])


async def test_a_reader_goes_on_after_the_store_came_back(server: Server) -> None:
    device, shard = DeviceId("d" * 16), ShardId("s")
    async with opened_store(server.url) as store:
        inboxes = Inboxes(store)
        await inboxes.open(shard)
        found: list[AnyHint] = []

        async def read() -> None:
            async for _, hints in inboxes.reader(shard):
                found.extend(hints)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read())
            await inboxes.append(shard, [Wake(device, 1)])
            await eventually(lambda: len(found) == 1)
            server.stop()
            server.start()
            await inboxes.append(shard, [Wake(device, 2)])
            await eventually(lambda: Wake(device, 2) in found)
            reader.cancel()
        assert found == [Wake(device, 1), Wake(device, 2)]


async def test_an_outbox_goes_on_behind_its_cursor_for_who_takes_over(store: Store) -> None:
    mailboxes, outbox = Mailboxes(store), Outbox(store)
    device = await registered(mailboxes)
    partition, group = partition_of(device), unique("g")
    await outbox.take_over(partition, group)
    offered = [envelope(device, 1_800_000_000_000 + n) for n in range(5)]
    for one in offered:
        await mailboxes.enqueue(one)

    async def read(reader: Outbox) -> dict[str, str]:
        entries = await reader.read(partition, group, 10_000)
        return {entry: r.message for entry, r in entries if r.device == device}

    first = await read(outbox)
    assert list(first.values()) == [one.message for one in offered]
    assert await read(outbox) == first
    await outbox.advance(partition, group, list(first)[2])

    for reader in (outbox, Outbox(store)):
        await reader.take_over(partition, group)
        again = await read(reader)
        assert list(again.values()) == [one.message for one in offered[3:]]


async def test_an_outbox_is_trimmed_to_what_every_group_has_dealt_with(
    fresh_store_url: str,
) -> None:
    async with opened_store(fresh_store_url) as store:
        mailboxes, outbox = Mailboxes(store), Outbox(store)
        device = await registered(mailboxes)
        partition = partition_of(device)
        assert await outbox.depth(partition) == 0
        await outbox.trim(partition)
        await outbox.take_over(partition, "fast")
        await outbox.take_over(partition, "slow")
        for number in range(300):
            await mailboxes.enqueue(envelope(device, 1_800_000_000_000 + number))
        assert await outbox.depth(partition) == 300
        entries = await outbox.read(partition, "fast", 1000)
        await outbox.advance(partition, "fast", entries[-1][0])
        await outbox.trim(partition)
        entries = await outbox.read(partition, "slow", 1000)
        assert len(entries) == 300
        await outbox.advance(partition, "slow", entries[150][0])
        assert 149 <= await outbox.depth(partition) <= 300
        await outbox.trim(partition)
        assert len(await outbox.read(partition, "slow", 1000)) == 149
        await outbox.advance(partition, "slow", entries[-1][0])
        await outbox.trim(partition)
        assert await outbox.depth(partition) == 0
        length = await store.batch.call("XLEN", f"{{{partition}}}:outbox")
        assert isinstance(length, int)
        assert length <= 100


async def test_sent_and_delivered_of_one_ack_share_an_entry(store: Store) -> None:
    mailboxes, outbox = Mailboxes(store), Outbox(store)
    device = await registered(mailboxes)
    partition, group = partition_of(device), unique("g")
    attached = await mailboxes.attach(device, "h", ShardId("s"), 5, 10)
    one = envelope(device, 1_800_000_000_000)
    seq = (await mailboxes.enqueue(one)).seq
    await mailboxes.ack(
        device, attached.epoch, [Ack(one.message, seq, one.now_ms + 3)], one.now_ms + 9
    )
    await outbox.take_over(partition, group)
    entries = [
        (entry, r) for entry, r in await outbox.read(partition, group, 10_000) if r.device == device
    ]
    events = [(r.event, r.time_ms - one.now_ms, r.accepted_ms) for _, r in entries]
    assert events == [
        (Event.ACCEPTED, 0, 0),
        (Event.SENT, 3, 0),
        (Event.DELIVERED, 9, one.now_ms),
    ]
    assert entries[1][0] == entries[2][0]


async def test_a_shard_lives_as_long_as_its_lease(store: Store) -> None:
    leases, inboxes = Leases(store), Inboxes(store)
    alive, dead = ShardId(unique("alive")), ShardId(unique("dead"))
    await leases.shard_renew(alive, b"{}", 60_000)
    await leases.shard_renew(dead, b"{}", 60_000)
    assert {alive, dead} <= (await leases.shards()).keys()
    await store.batch.call("DEL", keys.shard_lease(dead))  # as its time to live would
    shards = await leases.shards()
    assert dead not in shards
    assert shards[alive] == b"{}"
    assert await inboxes.append(alive, [])
    await leases.shard_drop(alive)
    assert alive not in await leases.shards()


async def test_workers_share_partitions_by_lease(fresh_store_url: str) -> None:
    # On a store of its own: another test may hold the lease of the partition.
    async with opened_store(fresh_store_url) as store:
        leases, timers = Leases(store), Timers(store)
        mine, other = unique("w"), unique("w")
        await leases.worker_renew(mine, 1000, 500)
        await leases.worker_renew(other, 1000, 5000)
        assert {mine, other} <= set(await leases.workers(1400, 1000))
        assert mine not in await leases.workers(1600, 1000)
        await leases.worker_drop(other)
        assert other not in await leases.workers(1600, 1000)

        partition = Partition("3f")
        assert await leases.partition_acquire(partition, mine, 60_000)
        assert await leases.partition_acquire(partition, mine, 60_000)
        assert not await leases.partition_acquire(partition, other, 60_000)
        await leases.partition_release(partition, other)
        assert await timers.due(partition, other, 2**50, 10) == []
        await leases.partition_release(partition, mine)
        assert await leases.partition_acquire(partition, other, 60_000)
        await leases.partition_release(partition, other)


async def test_a_timer_stands_until_it_is_done_and_was_not_set_anew(fresh_store_url: str) -> None:
    # On a store of its own: another test may hold the lease of the partition.
    async with opened_store(fresh_store_url) as store:
        mailboxes, leases, timers = Mailboxes(store), Leases(store), Timers(store)
        device, worker = await registered(mailboxes), unique("w")
        partition = partition_of(device)
        assert await leases.partition_acquire(partition, worker, 60_000)
        one = envelope(device, 1_000_000)
        await mailboxes.enqueue(one)
        timer = ("expire", device)
        assert timer not in await timers.due(partition, worker, one.expires_ms - 1, 1000)
        assert timer in await timers.due(partition, worker, one.expires_ms, 1000)
        await timers.done(partition, *timer, one.expires_ms - 1)
        assert timer in await timers.due(partition, worker, one.expires_ms, 1000)
        await timers.done(partition, *timer, one.expires_ms)
        assert timer not in await timers.due(partition, worker, one.expires_ms, 1000)
        await leases.partition_release(partition, worker)


async def test_projects_keys_and_accounts_are_kept(store: Store) -> None:
    projects = Projects(store)
    project = Project(ProjectId(unique("p")), "Demo", 7)
    assert await projects.create(project)
    assert await projects.create(project)
    assert not await projects.create(Project(project.id, "Other", 8))
    assert await projects.get(project.id) == project
    assert project in await projects.list()

    hashed = unique("hash")
    key = ApiKey("k1", project.id, frozenset({Scope.SEND}), client=False, created_ms=9, hint="pk")
    await projects.add_key(hashed, key)
    assert await projects.key(hashed) == key
    assert await projects.keys(project.id) == [key]
    assert not await projects.remove_key(project.id, "k2")
    assert await projects.remove_key(project.id, "k1")
    assert await projects.key(hashed) is None

    account = ServiceAccount(unique("sa"), project.id, "kid", "PEM", 10)
    await projects.add_service_account(account)
    assert await projects.service_account(account.email) == account
    await projects.put_access_token(hashed, project.id, frozenset({Scope.SEND}), 60)
    grant = AccessToken(project.id, frozenset({Scope.SEND}))
    assert await projects.access_token(hashed) == grant
    assert await projects.access_token("other") is None

    await projects.add_key(hashed, key)
    assert await projects.delete(project.id)
    assert not await projects.delete(project.id)
    assert await projects.key(hashed) is None
    assert await projects.get(project.id) is None


async def test_the_id_of_a_deleted_project_is_not_given_again(store: Store) -> None:
    projects = Projects(store)
    project = Project(ProjectId(unique("p")), "Demo", 7)
    assert not await projects.delete(project.id)
    assert await projects.create(project)
    assert await projects.delete(project.id)
    assert not await projects.create(project)
    assert project not in await projects.list()
