"""A cluster: commands find the node of their slot, and find it again when it is another."""

import asyncio
import os
from collections.abc import Iterator
from typing import Final

import hiredis
import pytest

from router.model.device import Device
from router.model.errors import PushError, StoreUnavailableError
from router.model.ids import (
    ENTROPY_BYTES,
    DeviceId,
    ProjectId,
    ShardId,
    new_device_id,
    new_message_id,
    partition_of,
)
from router.model.mailbox import Ack, Enqueued, Envelope
from router.store import keys
from router.store.connection import Store, StoreOptions
from router.store.mailbox import Mailboxes
from router.store.slots import SLOTS, Tags, slot_of_key
from tests.support.clusters import (
    ClusterServers,
    begin_move,
    end_move,
    move_at_once,
    move_keys,
    running_cluster,
)
from tests.support.tcp_server import TcpServer, free_port
from tests.support.valkey import make_store, opened_store, running_server, wall_ms
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

PROJECT: Final = ProjectId("demo")
NONCE: Final = "n" * 16


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServers]:
    """A cluster of three with a replica each; every test leaves it whole."""
    with running_cluster(replicas=True) as running:
        yield running


def slot_of(key: str) -> int:
    return slot_of_key(key, Tags())


def slot_of_device(device: DeviceId) -> int:
    return slot_of(keys.mailbox(device))


def two_nodes(cluster: ClusterServers, slot: int) -> tuple[TcpServer, TcpServer]:
    """Give the owner of a slot and another primary."""
    owner = cluster.owner(slot)
    return owner, next(node for node in cluster.primaries() if node is not owner)


async def register(store: Store) -> DeviceId:
    device = new_device_id(os.urandom(ENTROPY_BYTES))
    assert await Mailboxes(store).register(Device(device, PROJECT, "python"), NONCE, "h", 1)
    return device


async def send(store: Store, device: DeviceId) -> Enqueued:
    now_ms, partition = wall_ms(), partition_of(device)
    return await Mailboxes(store).enqueue(
        Envelope(
            message=new_message_id(partition, now_ms, os.urandom(ENTROPY_BYTES)),
            project=PROJECT,
            partition=partition,
            device=device,
            nonce=NONCE,
            frame=b"frame",
            now_ms=now_ms,
            expires_ms=now_ms + 600_000,
        )
    )


async def send_until(store: Store, device: DeviceId, over: asyncio.Event) -> list[int]:
    """Send one message after another; give the seqs."""
    seqs = []
    while not over.is_set():
        seqs.append((await send(store, device)).seq)
    return seqs


async def batches(store: Store) -> float:
    samples = [s for metric in store.metrics.store_batch.collect() for s in metric.samples]
    return next(s.value for s in samples if s.name.endswith("_count"))


async def test_the_commands_of_a_tick_are_one_pipeline_a_node(cluster: ClusterServers) -> None:
    async with opened_store(cluster.url, deadline_s=30) as store:
        await eventually(lambda: store.connected)
        before = await batches(store)
        stored = [store.batch.call("SET", f"number:{number}", number) for number in range(300)]
        found = [store.batch.call("GET", f"number:{number}") for number in range(300)]
        assert {await one for one in stored} == {b"OK"}
        assert [await one for one in found] == [b"%d" % number for number in range(300)]
        assert await batches(store) == before + len(cluster.primaries())
        assert await store.batch.call("TIME")


async def test_a_slot_that_has_moved_is_followed_in_order(cluster: ClusterServers) -> None:
    key = "{moved}:log"
    slot = slot_of(key)
    owner, other = two_nodes(cluster, slot)
    async with opened_store(cluster.url, deadline_s=30) as store:
        await store.batch.call("APPEND", key, "0,")
        begin_move(slot, owner, other)
        end_move(slot, owner, other)
        appended = []
        for number in range(1, 50):
            appended.append(store.batch.call("APPEND", key, f"{number},"))
            await asyncio.sleep(0)
        for one in appended:
            await one
        text = "".join(f"{number}," for number in range(50))
        assert await store.batch.call("GET", key) == text.encode()
        assert other.ask("GET", key) == text


async def test_a_key_that_has_left_is_asked_for_at_its_new_node(cluster: ClusterServers) -> None:
    key = "{asked}:log"
    slot = slot_of(key)
    owner, other = two_nodes(cluster, slot)
    async with opened_store(cluster.url, deadline_s=30) as store:
        await store.batch.call("APPEND", key, "0,")
        begin_move(slot, owner, other)
        assert move_keys(slot, owner, other) == 1
        appended = [store.batch.call("APPEND", key, f"{number},") for number in range(1, 10)]
        for one in appended:
            await one
        text = "".join(f"{number}," for number in range(10))
        assert await store.batch.call("GET", key) == text.encode()
        end_move(slot, owner, other)
        assert other.ask("GET", key) == text


async def test_a_node_that_names_itself_is_not_asked_as_fast_as_it_answers() -> None:
    asked, left = 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        port = str(writer.get_extra_info("sockname")[1]).encode()
        node = b"*3\r\n$9\r\n127.0.0.1\r\n:%s\r\n$1\r\nx\r\n" % port
        replies = {
            b"SLOTS": b"*1\r\n*3\r\n:0\r\n:16383\r\n" + node,
            b"INFO": b"$16\r\ncluster_state:ok\r\n",
            b"LIST": b"*1\r\n$4\r\nours\r\n",
            b"k": b"-MOVED %d 127.0.0.1:%s\r\n" % (slot_of("k"), port),
        }
        requests = hiredis.Reader()
        while data := await reader.read(65_536):
            requests.feed(data)
            while (request := requests.gets()) is not False:
                asked += request[0] == b"GET"
                writer.write(replies.get(request[-1 if len(request) == 1 else 1], b"+PONG\r\n"))
        writer.close()
        left.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"redis+cluster://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with make_store(StoreOptions(url)) as store:
            with pytest.raises(StoreUnavailableError):
                await store.batch.call("GET", "k", deadline_s=1)
        await left.wait()
    # Five times on its word at each look, otherwise twenty times a second.
    assert 5 < asked < 200


async def test_functions_wait_for_a_slot_whose_keys_are_on_their_way(
    cluster: ClusterServers,
) -> None:
    async with opened_store(cluster.url, deadline_s=30) as store:
        device = await register(store)
        slot = slot_of_device(device)
        elsewhere = await register(store)
        while slot_of_device(elsewhere) == slot:
            elsewhere = await register(store)
        await send(store, device)
        owner, other = two_nodes(cluster, slot)
        begin_move(slot, owner, other)
        assert move_keys(slot, owner, other, most=2) == 2
        sending = [asyncio.ensure_future(send(store, device)) for _ in range(20)]
        # What needs no key that has left goes on, and so do all other slots.
        for number in range(1, 6):
            assert (await send(store, elsewhere)).seq == number
        end_move(slot, owner, other)
        assert sorted([(await one).seq for one in sending]) == list(range(2, 22))
        found = await Mailboxes(store).device(device)
        assert found is not None


async def test_slots_that_change_hands_at_once_are_followed(cluster: ClusterServers) -> None:
    async with opened_store(cluster.url, deadline_s=30) as store:
        devices = [await register(store) for _ in range(5)]
        over = asyncio.Event()
        sending = [asyncio.ensure_future(send_until(store, one, over)) for one in devices]
        for slot in sorted({slot_of_device(one) for one in devices}):
            owner, other = two_nodes(cluster, slot)
            await asyncio.to_thread(move_at_once, slot, owner, other)
        over.set()
        for one in sending:
            seqs = await one
            assert seqs == list(range(1, len(seqs) + 1))


async def test_a_replica_takes_over_under_load(cluster: ClusterServers) -> None:
    async with opened_store(cluster.url, deadline_s=30) as store:
        device = await register(store)
        slot = slot_of_device(device)
        before = cluster.owner(slot)
        others = [await register(store) for _ in range(3)]
        over = asyncio.Event()
        sending = [asyncio.ensure_future(send_until(store, one, over)) for one in (device, *others)]
        reader = await store.open_reader(keys.mailbox(device))
        before.stop()
        after = await asyncio.to_thread(cluster.await_owner_other_than, before, slot)
        assert (await send(store, device)).seq
        over.set()
        for one in sending:
            assert await one
        await reader.lost
        again = await store.open_reader(keys.mailbox(device))
        assert await again.request("HGET", keys.mailbox(device), "n") == NONCE.encode()
        again.abort()
        assert str(after.ask("FUNCTION", "LIST")).count(store.library.name) == 1
        await eventually(lambda: store.connected)
    before.start()
    await asyncio.to_thread(cluster.await_replicas)


async def test_a_paused_primary_is_left_when_its_replica_takes_over(
    cluster: ClusterServers,
) -> None:
    async with opened_store(cluster.url, deadline_s=30) as store:
        device = await register(store)
        before = cluster.owner(slot_of_device(device))
        assert before.ask("WAIT", 1, 5000) == 1
        reader = await store.open_reader(keys.mailbox(device))
        before.pause()
        try:
            assert (await send(store, device)).seq == 1
            await reader.lost
        finally:
            before.resume()
        assert (await send(store, device)).seq == 2
    await asyncio.to_thread(cluster.await_replicas)


async def test_without_its_node_only_a_slot_is_away(cluster: ClusterServers) -> None:
    async with opened_store(cluster.url) as store:
        primary = cluster.owner(slot_of("lost"))
        pair = (cluster.replica_of(primary), primary)
        kept = next(
            key for key in map(str, range(99)) if cluster.owner(slot_of(key)) is not primary
        )
        for node in pair:
            node.stop()
        lost = store.batch.call("SET", "lost", "x", deadline_s=1)
        assert await store.batch.call("SET", kept, "x", deadline_s=30) == b"OK"
        with pytest.raises(StoreUnavailableError):
            await lost
        await store.ping()
        assert not store.connected
        for node in pair:
            node.start()
        assert await store.batch.call("SET", "lost", "y", deadline_s=30) == b"OK"
    await asyncio.to_thread(cluster.await_replicas)


async def test_a_full_node_refuses_sends_alone_and_takes_acks(cluster: ClusterServers) -> None:
    async with opened_store(cluster.url, deadline_s=30) as store:
        mailboxes = Mailboxes(store)
        full = await register(store)
        node = cluster.owner(slot_of_device(full))
        while cluster.owner(slot_of_device(other := await register(store))) is node:
            pass
        epoch = (await mailboxes.attach(full, "h", ShardId("shard"), wall_ms(), 10)).epoch
        sent = await send(store, full)
        node.ask("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(StoreUnavailableError, match="out of memory"):
                await send(store, full)
            assert (await send(store, other)).seq == 1
            await mailboxes.ack(full, epoch, [Ack(sent.message, sent.seq, 0)], wall_ms())
            assert await store.batch.call("ZCARD", keys.index(full)) == 0
        finally:
            node.ask("CONFIG", "SET", "maxmemory", 0)
        assert (await send(store, full)).seq == 2


async def test_every_node_is_examined(cluster: ClusterServers) -> None:
    async with make_store(StoreOptions(cluster.url)) as store:
        found = await store.check()
        assert [info.is_replica for info in found] == [False] * 3 + [True] * 3
        wrong = cluster.replica_of(cluster.primaries()[2])
        wrong.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(PushError, match=f"{wrong.address} has the maxmemory-policy allkeys"):
            await store.check()
        wrong.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_what_does_not_fit_the_url_is_told(cluster: ClusterServers) -> None:
    async with make_store(StoreOptions(f"redis://{cluster.nodes[0].address}")) as store:
        with pytest.raises(PushError, match=r"a node of a cluster: use redis\+cluster://"):
            await store.check()
    port = free_port()
    with running_server("--port", str(port)):
        async with make_store(StoreOptions(f"redis+cluster://127.0.0.1:{port}")) as store:
            with pytest.raises(StoreUnavailableError, match="cluster support disabled"):
                await store.check()


async def test_slots_that_nobody_serves_are_told(cluster: ClusterServers) -> None:
    node = cluster.owner(0)
    node.ask("CLUSTER", "DELSLOTS", 0)
    async with make_store(StoreOptions(f"redis+cluster://{node.address}")) as store:
        with pytest.raises(StoreUnavailableError, match=f"serves {SLOTS - 1} of {SLOTS} slots"):
            await store.check()
    node.ask("CLUSTER", "ADDSLOTS", 0)


async def test_a_replica_of_each_node_is_waited_for(cluster: ClusterServers) -> None:
    options = StoreOptions(cluster.url, fsync=True, replicas=1, deadline_s=2.0)
    async with make_store(options) as store:
        setting = [
            store.batch.call("SET", f"k{number}", "v", deadline_s=30) for number in range(20)
        ]
        assert {await one for one in setting} == {b"OK"}
        replica = cluster.replica_of(cluster.owner(slot_of("k0")))
        replica.stop()
        with pytest.raises(StoreUnavailableError):
            await store.batch.call("SET", "k0", "w", deadline_s=30)
        replica.start()
    await asyncio.to_thread(cluster.await_replicas)
