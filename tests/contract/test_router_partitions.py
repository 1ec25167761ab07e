"""Workers over a real store: fair shares, take-over, receipts at least once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog

from router.model.ids import PARTITIONS, Partition, ShardId, all_partitions, partition_of
from router.model.mailbox import Ack
from router.model.receipt import Event, Receipt
from router.partitions import Partitions, fair_share
from router.policy.delivery import replay
from router.receipts import MetricsSink, Receipts
from router.store.connection import StoreOptions
from tests.contract.router_stages import Stages, to
from tests.support.valkey import make_store, opened_store, running_server
from tests.support.waiting import eventually


class Memory:
    """A sink that remembers, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.failures = 0

    async def take(self, receipts: Sequence[Receipt]) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("The sink is not in the mood")
        self.receipts += receipts

    def events_of(self, message: str) -> list[Event]:
        return [receipt.event for receipt in self.receipts if receipt.message == message]


@pytest.fixture
async def stages(fresh_store_url: str) -> AsyncIterator[Stages]:
    async with opened_store(fresh_store_url) as store:
        yield Stages(store)


@asynccontextmanager
async def running(partitions: Partitions) -> AsyncIterator[asyncio.Event]:
    """Run a worker; it stops in order at the end."""
    stopping = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(partitions.run(stopping))
        try:
            yield stopping
        finally:
            stopping.set()


@pytest.mark.parametrize(("workers", "share"), [(0, 64), (1, 64), (2, 32), (3, 22), (100, 1)])
def test_a_fair_share_leaves_no_partition_out(workers: int, share: int) -> None:
    assert fair_share(workers, PARTITIONS) == share


async def test_one_worker_takes_all_and_gives_all_up(stages: Stages) -> None:
    worker = stages.partitions("one", Memory())
    async with running(worker):
        await eventually(lambda: worker.owned == set(all_partitions()))
        assert stages.count("pushwire_partitions_owned") == PARTITIONS
    assert worker.owned == frozenset()
    assert await stages.leases.workers(stages.clock.now_ms(), 6_000) == []
    for partition in all_partitions():
        assert await stages.leases.partition_acquire(partition, "heir", 1_000)


async def test_a_second_worker_gets_half_and_its_end_gives_it_back(stages: Stages) -> None:
    first = stages.partitions("first", Memory(), lease_s=0.6)
    second = stages.partitions("second", Memory(), lease_s=0.6)
    everything = set(all_partitions())
    async with running(first):
        await eventually(lambda: first.owned == everything)
        async with running(second):
            await eventually(lambda: len(first.owned) == len(second.owned) == PARTITIONS // 2)
            assert not first.owned & second.owned
        await eventually(lambda: first.owned == everything)


async def test_partitions_of_a_dead_worker_are_taken_over(stages: Stages) -> None:
    now_ms = stages.clock.now_ms()
    await stages.leases.worker_renew("dead", now_ms, 300)
    for partition in all_partitions():
        assert await stages.leases.partition_acquire(partition, "dead", 300)
    heir = stages.partitions("heir", Memory(), lease_s=0.6)
    async with running(heir):
        await eventually(lambda: heir.owned == set(all_partitions()))


async def test_a_worker_that_died_before_the_clock_was_set_back_holds_no_share(
    stages: Stages,
) -> None:
    await stages.leases.worker_renew("ghost", stages.clock.now_ms() + 3_600_000, 6_000)
    worker = stages.partitions("heir", Memory(), lease_s=0.6)
    async with running(worker):
        await eventually(lambda: worker.owned == set(all_partitions()))


async def test_a_lost_lease_ends_the_work_on_its_partition(stages: Stages) -> None:
    worker = stages.partitions("loser", Memory(), lease_s=0.6)
    thief = Partition("00")
    async with running(worker):
        await eventually(lambda: thief in worker.owned)
        await stages.store.batch.call("SET", "{00}:lease", "thief")
        await eventually(lambda: thief not in worker.owned)
        assert len(worker.owned) == PARTITIONS - 1


async def test_every_event_of_a_life_comes_out_in_order(stages: Stages) -> None:
    sink = Memory()
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    async with running(stages.partitions("w", sink)):
        sent = await stages.sender.send(stages.project, to(device))
        ack = Ack(sent, 1, stages.clock.now_ms())
        stages.acks.ack(device.device_id, attached.epoch, [ack])
        await eventually(lambda: Event.DELIVERED in sink.events_of(sent))
        assert replay(sink.events_of(sent)) is Event.DELIVERED
        stages.acks.engage(device.device_id, attached.epoch, sent, Event.OPENED, 5)
        await eventually(lambda: Event.OPENED in sink.events_of(sent))
    assert sink.events_of(sent) == [Event.ACCEPTED, Event.SENT, Event.DELIVERED, Event.OPENED]


async def test_a_scheduled_and_an_expiring_message_are_run_by_the_worker(stages: Stages) -> None:
    sink = Memory()
    device = await stages.register()
    async with running(stages.partitions("w", sink)):
        sent = await stages.sender.send(stages.project, to(device, ttl_ms=100))
        await eventually(lambda: Event.EXPIRED in sink.events_of(sent))
    assert replay(sink.events_of(sent)) is Event.EXPIRED


async def test_events_read_by_a_worker_that_died_come_again(stages: Stages) -> None:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device))
    partition = partition_of(device.device_id)
    await stages.outbox.take_over(partition, "receipts")
    read = await stages.outbox.read(partition, "receipts", 10)
    assert [receipt.message for _, receipt in read] == [sent]
    sink = Memory()
    async with running(stages.partitions("heir", sink)):
        await eventually(lambda: sink.events_of(sent) == [Event.ACCEPTED])


async def test_what_a_sink_refuses_comes_again(stages: Stages) -> None:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device))
    sink = Memory()
    sink.failures = 2
    async with running(stages.partitions("w", sink)):
        await eventually(lambda: sink.events_of(sent) == [Event.ACCEPTED])
    assert stages.count("pushwire_partition_errors_total", stage="receipts") == 2


@pytest.mark.slow
async def test_a_store_out_of_memory_lets_messages_expire_and_receipts_out(
    stages: Stages,
) -> None:
    device, before, sink = await stages.register(), Memory(), Memory()
    async with running(stages.partitions("first", before, lease_s=0.6)):
        sent = await stages.sender.send(stages.project, to(device, ttl_ms=2_000))
        await eventually(lambda: before.events_of(sent))
    shard = ShardId("shard-of-a-full-store")
    await stages.inboxes.open(shard)
    await stages.store.batch.call("CONFIG", "SET", "maxmemory", 1)
    async with running(stages.partitions("second", sink, lease_s=0.6)):
        await eventually(lambda: Event.EXPIRED in sink.events_of(sent))
        await stages.leases.shard_renew(shard, b"{}", 6_000)
        assert shard in await stages.leases.shards()


async def test_receipts_that_nobody_takes_do_not_keep_messages_from_expiring(
    stages: Stages,
) -> None:
    device, sink = await stages.register(), Memory()
    sink.failures = 1_000_000
    async with running(stages.partitions("w", sink)):
        sent = await stages.sender.send(stages.project, to(device, ttl_ms=50))
        async with asyncio.timeout(10):
            while await stages.events(sent) != ["accepted", "expired"]:  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.01)
        await eventually(lambda: stages.count("pushwire_outbox_depth") > 0)


async def test_a_window_that_was_taken_is_not_given_again(stages: Stages) -> None:
    device = await stages.register()
    for _ in range(700):
        await stages.sender.send(stages.project, to(device))
    partition, sink = partition_of(device.device_id), Memory()
    receipts = Receipts(stages.outbox, sink)
    await receipts.take_over(partition)
    assert await receipts.run_once(partition)
    assert not await receipts.run_once(partition)
    assert not await receipts.run_once(partition)
    assert len(sink.receipts) == 700
    await stages.outbox.trim(partition)
    assert await stages.outbox.depth(partition) == 0


async def test_a_worker_goes_on_when_the_store_comes_back() -> None:
    with running_server("--appendonly", "yes", "--appendfsync", "always") as server:
        async with make_store(StoreOptions(url=server.url, deadline_s=0.2)) as store:
            stages, sink = Stages(store), Memory()
            device = await stages.register()
            worker = stages.partitions("w", sink, lease_s=0.6)
            async with running(worker):
                await eventually(lambda: len(worker.owned) == PARTITIONS)
                server.stop()
                await eventually(
                    lambda: stages.count("pushwire_partition_errors_total", stage="lease") > 0
                )
                server.start()
                await eventually(store_ping(stages))
                sent = await stages.sender.send(stages.project, to(device))
                await eventually(lambda: sink.events_of(sent) == [Event.ACCEPTED])


def store_ping(stages: Stages) -> Callable[[], bool]:
    return lambda: stages.store.connected


async def test_a_worker_survives_the_loss_of_all_data(stages: Stages) -> None:
    sink = Memory()
    worker = stages.partitions("w", sink, lease_s=0.6)
    async with running(worker):
        await eventually(lambda: len(worker.owned) == PARTITIONS)
        await stages.store.batch.call("FLUSHALL")
        device = await stages.register()
        sent = await stages.sender.send(stages.project, to(device))
        await eventually(lambda: sink.events_of(sent) == [Event.ACCEPTED])


async def test_the_metrics_sink_counts_events_and_times_acks(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    async with running(stages.partitions("w", MetricsSink(stages.metrics))):
        sent = await stages.sender.send(stages.project, to(device))
        stages.acks.ack(device.device_id, attached.epoch, [Ack(sent, 1, 1)])
        await eventually(lambda: stages.count("pushwire_send_to_ack_seconds_count") == 1)
    assert stages.count("pushwire_receipts_total", event="accepted") == 1
    assert stages.count("pushwire_receipts_total", event="delivered") == 1


async def test_a_worker_stops_in_time_while_the_store_is_away() -> None:
    with running_server() as server:
        async with make_store(StoreOptions(url=server.url, deadline_s=0.2)) as store:
            worker = Stages(store).partitions("w", Memory(), lease_s=0.6)
            with structlog.testing.capture_logs() as logs:
                async with running(worker):
                    await eventually(lambda: len(worker.owned) == PARTITIONS)
                    server.pause()
                server.resume()
            assert "worker.leases_kept" in [line["event"] for line in logs]
