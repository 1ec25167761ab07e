"""The pipeline: order, limits, deadlines, and what a lost store does to it."""

import asyncio
import functools
import gc
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from typing_extensions import override

from router.model.device import Device
from router.model.errors import (
    PushError,
    StoreOutcomeUnknownError,
    StoreReplyError,
    StoreUnavailableError,
)
from router.model.ids import DeviceId, ProjectId
from router.store.batch import Batch
from router.store.connection import Store, StoreOptions
from router.store.mailbox import Mailboxes
from router.telemetry.metrics import Metrics
from tests.support.valkey import Server, make_store, opened_store, running_server
from tests.support.waiting import eventually


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server("--appendonly", "yes") as running:
        yield running


async def number_of_batches(store: Store) -> float:
    samples = [s for metric in store.metrics.store_batch.collect() for s in metric.samples]
    return next(s.value for s in samples if s.name.endswith("_count"))


async def test_commands_of_one_tick_leave_together_and_are_answered_in_order(store: Store) -> None:
    before = await number_of_batches(store)
    futures = [store.batch.call("ECHO", f"{number}") for number in range(300)]
    replies = [await future for future in futures]
    assert replies == [f"{number}".encode() for number in range(300)]
    assert await number_of_batches(store) == before + 1


async def test_an_error_reply_fails_only_its_own_command(store: Store) -> None:
    before = store.batch.call("ECHO", "a")
    wrong = store.batch.call("NO-SUCH-COMMAND")
    after = store.batch.call("ECHO", "b")
    assert await before == b"a"
    with pytest.raises(StoreReplyError, match="unknown command"):
        await wrong
    assert await after == b"b"


async def test_a_cancelled_command_leaves_its_neighbours_alone(store: Store) -> None:
    first, second, third = (store.batch.call("ECHO", text) for text in "abc")
    second.cancel()
    assert (await first, await third) == (b"a", b"c")
    sent = store.batch.call("ECHO", "d")
    beside = store.batch.call("ECHO", "e")
    await asyncio.sleep(0)
    sent.cancel()
    assert await beside == b"e"


async def test_a_full_queue_refuses_at_once() -> None:
    async with make_store(StoreOptions(url="unix:///no/such.sock", max_queue=2)) as store:
        waiting = [store.batch.call("PING", deadline_s=30) for _ in range(2)]
        refused = store.batch.call("PING")
        assert refused.done()
        with pytest.raises(StoreUnavailableError):
            await refused
    for future in waiting:
        with pytest.raises(StoreUnavailableError):
            await future


async def test_an_unsent_command_fails_at_its_deadline_as_untouched() -> None:
    async with make_store(StoreOptions(url="unix:///no/such.sock")) as store:
        with pytest.raises(StoreUnavailableError) as raised:
            await store.batch.call("PING", deadline_s=0.02)
        assert not isinstance(raised.value, StoreOutcomeUnknownError)
        assert not store.connected


async def test_a_sent_command_without_answer_has_an_unknown_outcome(server: Server) -> None:
    async with opened_store(server.url) as store:
        server.pause()
        try:
            sent = store.batch.call("SET", "k", "v", deadline_s=0.05)
            await asyncio.sleep(0)
            behind = store.batch.call("ECHO", "later", deadline_s=0.05)
            with pytest.raises(StoreOutcomeUnknownError):
                await sent
            with pytest.raises(StoreUnavailableError) as raised:
                await behind
            assert not isinstance(raised.value, StoreOutcomeUnknownError)
        finally:
            server.resume()
        assert await store.batch.call("ECHO", "again") == b"again"


async def test_unanswered_commands_are_sent_again_in_order_after_a_crash(server: Server) -> None:
    async with opened_store(server.url) as store:
        server.pause()
        futures = [store.batch.call("SET", "k", n, deadline_s=30) for n in range(50)]
        await asyncio.sleep(0)
        futures += [store.batch.call("APPEND", "log", f"{n},", deadline_s=30) for n in range(5)]
        server.stop()
        await eventually(lambda: not store.connected)
        server.start()
        for future in futures:
            await future
        assert await store.batch.call("GET", "k") == b"49"
        assert await store.batch.call("GET", "log") == b"0,1,2,3,4,"


async def test_functions_come_back_after_they_were_flushed(server: Server) -> None:
    async with opened_store(server.url) as store:
        await store.batch.call("FUNCTION", "FLUSH")
        new = Device(DeviceId("device-after-flush"), ProjectId("demo"), "python")
        assert await Mailboxes(store).register(new, "n" * 16, "h", 1)


async def test_a_replica_that_refuses_writes_is_left_until_one_takes_them(server: Server) -> None:
    async with opened_store(server.url) as store:
        await store.batch.call("REPLICAOF", "127.0.0.1", "1")
        write = store.batch.call("SET", "k", "v", deadline_s=30)
        await eventually(lambda: not store.connected)
        async with opened_store(server.url) as other:
            await other.batch.call("REPLICAOF", "NO", "ONE")
        assert await write == b"OK"


async def test_a_replica_is_left_where_writes_must_be_on_disk_too(server: Server) -> None:
    async with make_store(StoreOptions(url=server.url, fsync=True)) as store:
        await store.batch.call("SET", "k", "v", deadline_s=30)
        async with opened_store(server.url) as other:
            await other.batch.call("REPLICAOF", "127.0.0.1", "1")
            write = store.batch.call("SET", "k", "w", deadline_s=30)
            await eventually(lambda: not store.connected)
            await other.batch.call("REPLICAOF", "NO", "ONE")
        assert await write == b"OK"


async def test_who_gave_up_at_the_first_failure_need_not_look_at_the_rest() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with make_store(StoreOptions(url="unix:///no/such.sock", max_queue=2)) as store:
        several = [store.batch.call("PING", deadline_s=0.02) for _ in range(3)]
        with pytest.raises(StoreUnavailableError):
            await several[0]
        several.clear()
        gc.collect()
    assert not complaints


async def test_the_queue_is_shown_while_the_store_is_away() -> None:
    async with make_store(StoreOptions(url="unix:///no/such.sock")) as store:
        waiting = [store.batch.call("PING", deadline_s=30) for _ in range(3)]
        with pytest.raises(StoreUnavailableError):
            await store.batch.call("PING", deadline_s=0.02)
        (gauge,) = store.metrics.store_queue.collect()
        assert gauge.samples[0].value == len(waiting)


async def test_deadlines_that_differ_a_little_are_looked_at_together() -> None:
    class Watched(Batch):
        looks = 0

        @override
        def _sweep(self) -> None:
            self.looks += 1
            super()._sweep()

    batch = Watched(Metrics(CollectorRegistry()), 1.0, 1000)
    waiting = [batch.call("PING", deadline_s=0.02 + number / 4000) for number in range(400)]
    for each in waiting:
        with pytest.raises(StoreUnavailableError):
            await each
    batch.close()
    assert batch.looks < 10


async def test_a_store_out_of_memory_accepts_nothing_and_says_so(server: Server) -> None:
    async with opened_store(server.url) as store:
        await store.batch.call("CONFIG", "SET", "maxmemory", 1)
        new = Device(DeviceId("device-without-room"), ProjectId("demo"), "python")
        with pytest.raises(StoreUnavailableError, match="out of memory"):
            await Mailboxes(store).register(new, "n" * 16, "h", 1)
        assert await Mailboxes(store).device(new.id) is None


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["everysec", "always"])
async def test_durable_writes_survive_a_kill(policy: str) -> None:
    with running_server("--appendonly", "yes", "--appendfsync", policy) as server:
        async with make_store(StoreOptions(url=server.url, fsync=True, deadline_s=10)) as store:
            await store.batch.call("SET", "k", "v")
            server.stop()
            server.start()
            assert await store.batch.call("GET", "k") == b"v"
            assert (await store.check())[0].appendfsync == policy


async def test_fsync_without_a_log_is_refused(store_url: str) -> None:
    async with make_store(StoreOptions(url=store_url, fsync=True)) as store:
        with pytest.raises(StoreOutcomeUnknownError):
            await store.batch.call("SET", "k", "v")
        with pytest.raises(PushError, match="appendonly"):
            await store.check()


async def test_a_store_that_evicts_is_refused(server: Server) -> None:
    async with opened_store(server.url) as store:
        await store.batch.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(PushError, match="maxmemory-policy allkeys-lru, which throws messages"):
            await store.check()


async def test_check_names_the_server(store: Store) -> None:
    (info,) = await store.check()
    assert info.server == "valkey"
    assert info.version.split(".")[0].isdigit()
    assert info.maxmemory_policy == "noeviction"


async def test_check_tells_why_the_store_is_away() -> None:
    options = StoreOptions(url="unix:///no/such.sock", deadline_s=0.2)
    async with make_store(options) as store:
        with pytest.raises(StoreUnavailableError, match=r"/no/such\.sock is away"):
            await store.check()


async def test_a_wrong_password_is_told_by_check(server: Server) -> None:
    async with opened_store(server.url) as store:
        await store.batch.call("CONFIG", "SET", "requirepass", "right")
    url = server.url.replace("unix://", "unix://:wrong@")
    async with make_store(StoreOptions(url=url, deadline_s=0.5)) as store:
        with pytest.raises(StoreUnavailableError, match="WRONGPASS"):
            await store.check()
    url = server.url.replace("unix://", "unix://:right@")
    async with make_store(StoreOptions(url=url)) as store:
        await store.ping()


async def test_urgent_commands_pass_those_that_wait(store: Store) -> None:
    answered: list[str] = []

    futures = [store.batch.call("ECHO", "in flight")]
    await asyncio.sleep(0)  # it leaves
    for number in range(3000):
        futures.append(store.batch.call("ECHO", "bulk"))
        futures[-1].add_done_callback(functools.partial(_note, answered, f"bulk {number}"))
    for number in range(3):
        futures.append(store.batch.call("ECHO", "urgent", urgent=True))
        futures[-1].add_done_callback(functools.partial(_note, answered, f"urgent {number}"))
    for future in futures:
        await future
    await eventually(lambda: len(answered) == len(futures) - 1)  # the callbacks come after
    assert answered[:4] == ["urgent 0", "urgent 1", "urgent 2", "bulk 0"]
    assert answered[3:] == [f"bulk {number}" for number in range(3000)]


def _note(answered: list[str], name: str, _: object) -> None:
    answered.append(name)


async def test_a_flood_of_urgent_commands_leaves_room_for_others(store: Store) -> None:
    answered: list[str] = []
    futures = [store.batch.call("ECHO", "in flight")]
    await asyncio.sleep(0)
    for name, count, urgent in (("bulk", 10, False), ("urgent", 2000, True)):
        for _ in range(count):
            future = store.batch.call("ECHO", name, urgent=urgent)
            future.add_done_callback(functools.partial(_note, answered, name))
            futures.append(future)
    for future in futures:
        await future
    assert "bulk" in answered[:1000]


async def test_urgent_commands_find_room_in_a_full_queue(fresh_store_url: str) -> None:
    async with make_store(StoreOptions(url=fresh_store_url, max_queue=5)) as store:
        full = [store.batch.call("ECHO", "bulk") for _ in range(6)]
        urgent = store.batch.call("ECHO", "urgent", urgent=True)
        with pytest.raises(StoreUnavailableError):
            await full[5]
        assert await urgent == b"urgent"
        assert await full[0] == b"bulk"
