"""The two halves of the export over a real store: bounded, honest, never past what is kept."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from router.export.encoder import Compression, Encoder, Format, Writing, writing_of
from router.export.exporter import Exporter, Rotation
from router.export.feed import Feed
from router.export.records import Record
from router.export.sink import File
from router.model.ids import Partition
from router.store import keys
from router.store.connection import Store
from router.store.exports import GROUP, Exports, Mark
from router.store.outbox import Outbox
from router.telemetry.metrics import Metrics
from tests.support.exported import Row, once, read_rows
from tests.support.valkey import opened_store, wall_ms
from tests.support.waiting import eventually

HERE = Partition("07")
WRITING = writing_of(Format.NDJSON, Compression.NONE)


class Shelf:
    """A sink that keeps files in memory, one after another as it is let."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.open = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        pass

    async def put(self, file: File) -> None:
        await self.open.wait()
        self.files.append(file)

    @property
    def rows(self) -> list[Row]:
        return [row for file in self.files for row in read_rows(file.name, file.data)]


class Bench:
    """A feed and an exporter over one outbox, driven by hand."""

    def __init__(self, store: Store, writing: Writing = WRITING, buffer_bytes: int = 10**9) -> None:
        self.store = store
        self.registry = CollectorRegistry()
        self.now_s = 0.0
        self.exports = Exports(store)
        self.shelf = Shelf()
        metrics = Metrics(self.registry)
        self.feed = Feed(self.exports, metrics, wall_ms, self.tick, buffer_bytes)
        self.exporter = Exporter(
            "worker-0-x",
            self.feed,
            self.exports,
            self.shelf,
            writing,
            Rotation(0.05, 1 << 30),
            metrics,
            wall_ms,
            asyncio.get_running_loop().time,
            lambda _low, _high: 0.0,
        )

    def tick(self) -> float:
        """A second passes at each look: a partition is always due, files soon are."""
        self.now_s += 1.0
        return self.now_s

    async def write(self, count: int, first: int = 0) -> None:
        """Let so many events happen."""
        asked = [
            self.store.batch.call(
                "XADD", keys.outbox(HERE), "*", "r", f"demo|m{n}|dev1|accepted|{wall_ms()}|0|0|"
            )
            for n in range(first, first + count)
        ]
        for answer in asked:
            await answer

    async def cursor(self) -> int:
        """How many entries the store says are in files."""
        (group,) = [
            each for each in await Outbox(self.store).groups(HERE) if each["name"] == GROUP.encode()
        ]
        number = group["entries-read"]
        assert isinstance(number, int)
        return number

    async def read(self, rounds: int) -> None:
        for _ in range(rounds):
            assert await self.feed.run_once(HERE) is False

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.exporter.run(stopping))
            try:
                yield
            finally:
                self.shelf.open.set()
                stopping.set()

    def messages(self) -> list[str]:
        return [str(row["message_id"]) for row in once(self.shelf.rows)]


@pytest.fixture
async def bench(fresh_store_url: str) -> AsyncIterator[Bench]:
    async with opened_store(fresh_store_url) as store:
        yield Bench(store)


async def test_a_full_buffer_stops_the_reading_until_there_is_room(fresh_store_url: str) -> None:
    async with opened_store(fresh_store_url) as store:
        bench = Bench(store, buffer_bytes=100_000)
        await bench.write(3_000)
        await bench.feed.take_over(HERE)
        await bench.read(20)
        assert bench.feed.entries == 500
        bench.feed.take(1)
        await bench.read(20)
        assert bench.feed.entries == 500
        assert bench.metric("pushwire_export_waiting") == 1_000


async def test_the_cursor_counts_what_is_kept_and_no_more(bench: Bench) -> None:
    await bench.write(1_200)
    await bench.feed.take_over(HERE)
    await bench.read(4)
    assert await bench.cursor() == 0
    async with bench.running():
        await eventually(lambda: bench.metric("pushwire_export_waiting") == 1_200)
        assert await bench.cursor() == 0
        bench.shelf.open.set()
        await eventually(lambda: bench.metric("pushwire_export_waiting") == 0)
        assert await bench.cursor() == 1_200
    assert bench.messages() == [f"m{n}" for n in range(1_200)]


async def test_what_an_outbox_lost_to_its_bound_is_counted(bench: Bench) -> None:
    await bench.write(100)
    await bench.feed.take_over(HERE)
    bench.shelf.open.set()
    async with bench.running():
        await bench.read(1)
        await eventually(lambda: bench.metric("pushwire_export_events_total") == 100)
        await bench.write(900, 100)
        await bench.store.batch.call("XTRIM", keys.outbox(HERE), "MAXLEN", 600)
        await bench.feed.take_over(HERE)
        await bench.read(4)
        await eventually(lambda: bench.metric("pushwire_export_events_total") == 700)
    assert bench.metric("pushwire_export_lost_total", reason="trimmed") == 300
    assert bench.messages() == [f"m{n}" for n in (*range(100), *range(400, 1_000))]
    assert await bench.cursor() == 1_000
    assert (await bench.exports.standing()).waiting == 0


async def test_a_worker_that_died_repeats_and_counts_no_loss(bench: Bench) -> None:
    await bench.write(50)
    await bench.feed.take_over(HERE)
    await bench.read(1)
    successor = Bench(bench.store)
    await successor.feed.take_over(HERE)
    await successor.read(1)
    assert successor.feed.entries == bench.feed.entries == 50
    assert successor.metric("pushwire_export_lost_total", reason="trimmed") == 0


async def test_a_cursor_never_goes_back(bench: Bench) -> None:
    await bench.write(10)
    start = await bench.exports.open(HERE)
    read = await bench.exports.read(HERE, start, 10)
    assert await bench.exports.move({HERE: Mark(read[9][0], 10)}) == frozenset()
    assert await bench.exports.move({HERE: Mark(read[3][0], 4)}) == frozenset()
    assert await bench.exports.open(HERE) == Mark(read[9][0], 10)


async def test_a_group_that_is_gone_with_the_store_s_data_begins_anew(bench: Bench) -> None:
    await bench.write(10)
    await bench.feed.take_over(HERE)
    bench.shelf.open.set()
    async with bench.running():
        await bench.read(1)
        await bench.store.batch.call("FLUSHALL")
        await eventually(lambda: bench.metric("pushwire_export_waiting") == 0)
        await bench.write(5, 10)
        await bench.read(2)
        await eventually(lambda: len(bench.messages()) == 15)
        await eventually(lambda: bench.metric("pushwire_export_waiting") == 0)
        assert await bench.cursor() == 5


async def test_an_entry_that_cannot_be_read_is_counted_and_holds_up_nothing(bench: Bench) -> None:
    await bench.write(2)
    await bench.store.batch.call("XADD", keys.outbox(HERE), "*", "r", "nonsense")
    await bench.write(2, 2)
    await bench.feed.take_over(HERE)
    bench.shelf.open.set()
    async with bench.running():
        await bench.read(1)
        await eventually(lambda: bench.metric("pushwire_export_waiting") == 0)
        assert await bench.cursor() == 5
    assert bench.messages() == ["m0", "m1", "m2", "m3"]
    assert bench.metric("pushwire_export_lost_total", reason="unreadable") == 1


class Faulty:
    """An encoder that breaks in the middle of its first file."""

    def __init__(self, inner: Encoder, breaks: Callable[[], bool]) -> None:
        self._inner = inner
        self._breaks = breaks

    @property
    def size(self) -> int:
        return self._inner.size

    def add(self, records: Sequence[Record]) -> None:
        if self._breaks():
            raise RuntimeError("a defect")
        self._inner.add(records)

    def finish(self) -> bytes:
        return self._inner.finish()


@pytest.mark.slow
async def test_after_a_defect_the_events_come_again(fresh_store_url: str) -> None:
    faults = iter([False, True])
    writing = msgspec.structs.replace(
        WRITING, encoder=lambda: Faulty(WRITING.encoder(), lambda: next(faults, False))
    )
    async with opened_store(fresh_store_url) as store:
        bench = Bench(store, writing)
        await bench.write(3_000)
        await bench.feed.take_over(HERE)
        await bench.read(6)
        bench.shelf.open.set()
        async with bench.running():
            await eventually(lambda: bench.metric("pushwire_export_failures_total") == 1)
            await bench.read(8)
            await eventually(lambda: len(bench.messages()) == 3_000)
        assert bench.messages() == [f"m{n}" for n in range(3_000)]
        assert await bench.cursor() == 3_000
