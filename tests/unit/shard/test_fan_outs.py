"""Messages to all sessions of a topic: which go at once, which wait, and in what order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import cast

from prometheus_client import CollectorRegistry

from gateway.shard.fan_outs import MAX_FAN_OUTS, MAX_OF_TOPIC, MAX_RUN, MAX_RUN_BYTES, FanOuts
from gateway.shard.local_topic import LocalTopic, Subscriber
from gateway.shard.pace import BURST_S, Pace
from gateway.shard.session.published import Counts, Item, Run
from gateway.shard.turns import SLICE, Turns
from gateway.shard.writers import Writers
from router.model.ids import MessageId, ProjectId, TopicName
from router.model.lane import Lane
from router.model.message import ReceiptMode
from router.telemetry.metrics import Metrics
from tests.support.waiting import eventually

A, B = ProjectId("a"), ProjectId("b")


class World:
    """Topics with subscribers that are only counted."""

    def __init__(self, tasks: asyncio.TaskGroup, rate: float) -> None:
        self.registry = CollectorRegistry()
        self.pace = Pace(rate)
        metrics = Metrics(self.registry)
        # Strict: `Turns` has a test of its own for what keeps the others from starving.
        self.writers = Writers(Turns(share=1_000_000), self.pace, metrics, tasks)
        self.fan_outs = FanOuts(self._write, self.writers, metrics)
        self.written: list[str] = []
        """Each message once it has been written to all; a look at the log as `look`."""
        self.deliveries = 0
        self.runs: list[tuple[list[str], int]] = []
        """What was written together, and to how many sessions."""
        self.after: dict[int, Callable[[], None]] = {}
        """What happens once so much was written."""
        self._seen: dict[object, int] = {}

    def topic(self, name: str, subscribers: int, project: ProjectId = A) -> LocalTopic:
        local = LocalTopic(project, TopicName(name), Counts())
        local.peers = {cast("Subscriber", object()) for _ in range(subscribers)}
        return local

    def publish(self, local: LocalTopic, name: str, lane: Lane = Lane.NORMAL) -> None:
        receipts = ReceiptMode.AGGREGATE
        message = MessageId(name)
        item = Item(local.project, 1, 0, message, 1 << 60, receipts, "", b"frame", lane)
        self.fan_outs.put(local, item, lane)

    def burst(
        self, local: LocalTopic, numbers: Sequence[int], lane: Lane = Lane.NORMAL, size: int = 5
    ) -> None:
        """Publish messages that follow each other in the log, by seq."""
        for seq in numbers:
            message, frame = MessageId(f"{local.name} {seq}"), b"x" * size
            receipts = ReceiptMode.AGGREGATE
            self.fan_outs.put(
                local,
                Item(local.project, seq, seq - 1, message, 1 << 60, receipts, "", frame, lane),
                lane,
            )

    def waiting(self, lane: Lane) -> float | None:
        self.fan_outs.show()
        return self.registry.get_sample_value("pushwire_fan_outs_waiting", {"priority": lane.label})

    def _write(self, local: LocalTopic, run: Run | None, peers: Sequence[Subscriber]) -> None:
        names = [f"{local.name} looks"] if run is None else [str(one.message) for one in run.items]
        self.runs.append((names, len(peers)))
        for name in names:
            self._seen[name] = self._seen.get(name, 0) + len(peers)
            self.deliveries += len(peers)
            if self._seen[name] == len(local.peers):
                self.written.append(name)
                del self._seen[name]
        for least in [least for least in self.after if least <= self.deliveries]:
            self.after.pop(least)()


@contextlib.asynccontextmanager
async def world(rate: float = 0) -> AsyncIterator[World]:
    """Everything that was published is written once the block has ended."""
    async with asyncio.TaskGroup() as tasks:
        yield World(tasks, rate)


async def test_a_message_to_few_goes_at_once() -> None:
    async with world() as here:
        here.publish(here.topic("small", 3), "m")
        assert here.written == ["m"]
        here.fan_outs.put(here.topic("empty", 0), None, Lane.NORMAL)
    assert here.waiting(Lane.NORMAL) == 0


async def test_many_messages_to_few_are_no_more_than_a_slice_a_turn() -> None:
    async with world() as here:
        small = [here.topic(str(number), SLICE // 2) for number in range(6)]
        for number, local in enumerate(small):
            here.publish(local, str(number))
        assert here.written == ["0", "1"]
        assert here.waiting(Lane.NORMAL) == 4
    assert here.written == [str(number) for number in range(6)]


async def test_a_small_topic_of_another_project_does_not_wait_for_a_large_one() -> None:
    async with world() as here:
        large, small = here.topic("large", 400 * SLICE), here.topic("small", 3, B)
        here.publish(large, "large 1")
        here.publish(large, "large 2")
        here.after[5 * SLICE] = lambda: here.publish(small, f"small at {here.deliveries}")
    name, *rest = here.written
    assert name == f"small at {5 * SLICE}"
    assert rest == ["large 1", "large 2"]


async def test_a_critical_message_overtakes_the_fan_outs_of_its_own_project() -> None:
    """100,000 deliveries and more are queued; what is not urgent waits its turn."""
    written: list[str] = []
    async with world() as here:
        bulk = [here.topic(f"bulk{number}", 2_000) for number in range(10)]
        urgent, low = here.topic("urgent", 500), here.topic("low", 3)
        for number in range(60):
            here.publish(bulk[number % 10], f"bulk {number}")

        def send() -> None:
            here.publish(low, "low", Lane.LOW)
            here.publish(urgent, "critical", Lane.CRITICAL)

        here.after[3 * SLICE] = send
        here.after[500 + 5 * SLICE] = lambda: written.extend(here.written)
    assert written == ["critical"]
    assert here.written[-1] == "low", "all that is more urgent goes first"
    assert here.deliveries == 60 * 2_000 + 503


async def test_order_within_a_topic_holds_and_takes_along_what_is_before() -> None:
    async with world() as here:
        other, mixed = here.topic("other", 10 * SLICE), here.topic("mixed", 2 * SLICE)
        for number in range(3):
            here.publish(other, f"other {number}")
        for name, lane in (("m1", Lane.LOW), ("m2", Lane.CRITICAL), ("m3", Lane.LOW)):
            here.publish(mixed, name, lane)
    assert here.written == ["m1", "m2", "other 0", "other 1", "other 2", "m3"]


async def test_beyond_its_bound_a_topic_has_its_sessions_read_the_log() -> None:
    async with world() as here:
        large, other = here.topic("large", 2 * SLICE), here.topic("other", 2 * SLICE)
        for number in range(MAX_OF_TOPIC + 100):
            here.publish(large, str(number))
        here.publish(other, "other")
        assert here.waiting(Lane.NORMAL) == MAX_OF_TOPIC + 2, "one look for all of them"
    assert here.written.count("large looks") == 1
    assert len(here.written) == MAX_OF_TOPIC + 2
    assert here.written.index("other") < 3, "another topic has its place all the same"
    assert here.waiting(Lane.NORMAL) == 0


async def test_a_critical_message_beyond_the_bound_is_looked_for_in_its_lane() -> None:
    async with world() as here:
        large, other = here.topic("large", 2 * SLICE), here.topic("other", 2 * SLICE)
        for number in range(MAX_OF_TOPIC + 1):
            here.publish(large, str(number))
        here.publish(large, "critical", Lane.CRITICAL)
        here.publish(other, "other")
        assert here.waiting(Lane.CRITICAL) == 1
    assert here.written[-2:] == ["large looks", "other"]


async def test_a_paced_fan_out_loses_nothing() -> None:
    async with world(rate=100 * SLICE) as here:
        small = here.topic("small", 100)
        for number in range(30):
            here.publish(small, str(number))
        assert len(here.written) < 30
    assert here.written == [str(number) for number in range(30)]
    waits = here.registry.get_sample_value(
        "pushwire_fan_out_wait_seconds_count", {"priority": "normal"}
    )
    assert waits == 28


async def test_beyond_the_bound_of_all_a_topic_that_is_new_has_its_sessions_read_the_log() -> None:
    async with world() as here:
        many = [here.topic(f"{number}", 2 * SLICE) for number in range(MAX_FAN_OUTS)]
        for number, local in enumerate(many):
            here.publish(local, str(number))
        here.publish(here.topic("late", 2), "late")
        assert here.waiting(Lane.NORMAL) == MAX_FAN_OUTS + 1
    assert "late looks" in here.written
    assert len(here.written) == MAX_FAN_OUTS + 1


async def test_a_write_that_breaks_takes_nothing_else_with_it() -> None:
    async with world() as here:
        local = here.topic("large", 2 * SLICE)

        def fail() -> None:
            raise RuntimeError("cannot be written")

        here.after[SLICE] = fail
        here.publish(local, "broken")
        here.publish(local, "next")
    assert here.written == ["broken", "next"]
    assert here.waiting(Lane.NORMAL) == 0


async def test_a_burst_to_a_topic_goes_out_in_runs_and_a_turn_stays_a_turn() -> None:
    async with world() as here:
        large = here.topic("large", 2 * SLICE)
        here.burst(large, range(1, 2 * MAX_RUN + 4))
    assert here.written == [f"large {seq}" for seq in range(1, 2 * MAX_RUN + 4)]
    assert {len(names) for names, _ in here.runs} == {MAX_RUN, 3}
    assert max(len(names) * peers for names, peers in here.runs) <= SLICE
    assert here.waiting(Lane.NORMAL) == 0
    waits = here.registry.get_sample_value(
        "pushwire_fan_out_wait_seconds_count", {"priority": "normal"}
    )
    assert waits == 2 * MAX_RUN + 3, "each message counts"


async def test_each_delivery_of_a_burst_counts_at_the_pace_of_its_project() -> None:
    begun_s, rate = asyncio.get_running_loop().time(), 100_000
    async with world(rate=rate) as here:
        here.burst(here.topic("large", 2 * SLICE), range(1, 33))
    earned_s = here.pace.wait_s(A, Lane.NORMAL, begun_s) + BURST_S
    assert earned_s >= 32 * 2 * SLICE / rate


async def test_a_critical_message_waits_for_one_turn_of_a_burst() -> None:
    seen: list[int] = []
    async with world() as here:
        large, urgent = here.topic("large", 10 * SLICE), here.topic("urgent", 3)
        here.burst(large, range(1, 65))

        def send() -> None:
            seen.append(here.deliveries)
            here.publish(urgent, "critical", Lane.CRITICAL)

        here.after[3 * SLICE] = send
        here.after[5 * SLICE] = lambda: seen.append(int("critical" in here.written))
    assert seen[0] < 4 * SLICE
    assert seen[1] == 1


async def test_a_burst_of_one_project_leaves_every_second_turn_to_another() -> None:
    async with world() as here:
        ours, theirs = here.topic("ours", 4 * SLICE), here.topic("theirs", 4 * SLICE, B)
        here.burst(ours, range(1, 33))
        here.burst(theirs, range(1, 33))
        owners = here.runs
    turns = [names[0].split()[0] for names, _ in owners]
    assert turns[:40] == ["ours", "theirs"] * 20


async def test_a_run_ends_where_the_lane_changes_where_the_log_has_a_gap_and_at_its_bytes() -> None:
    async with world() as here:
        large = here.topic("large", SLICE + 1)
        here.burst(large, [1, 2], Lane.LOW)
        here.burst(large, [3], Lane.CRITICAL)
        here.burst(large, [4, 5, 7, 8], Lane.LOW)
        here.burst(large, [9, 10, 11], Lane.LOW, MAX_RUN_BYTES // 2)
        here.fan_outs.put(large, None, Lane.LOW)
        here.burst(large, [12], Lane.LOW)
    assert list(dict.fromkeys(tuple(names) for names, _ in here.runs)) == [
        ("large 1", "large 2"),
        ("large 3",),
        ("large 4", "large 5"),
        ("large 7", "large 8", "large 9"),
        ("large 10", "large 11"),
        ("large looks",),
        ("large 12",),
    ]


async def test_what_no_log_holds_goes_alone() -> None:
    async with world() as here:
        large = here.topic("large", SLICE + 1)
        here.burst(large, [0, 1, 2])
    assert [names for names, _ in here.runs[::2]][:1] == [["large 0"]]
    assert here.written == ["large 0", "large 1", "large 2"]


async def test_a_topic_that_cannot_be_written_is_given_up_and_can_be_published_to_again() -> None:
    async with world() as here:
        large = here.topic("large", 2 * SLICE)
        large.followed = True
        peers, large.peers = large.peers, cast("set[Subscriber]", Unreadable(2 * SLICE))
        here.burst(large, range(1, 4))
        await eventually(lambda: here.waiting(Lane.NORMAL) == 0)
        assert not large.followed, "so its log is looked at"
        large.peers = peers
        here.burst(large, range(4, 6))
    assert here.written == ["large 4", "large 5"]


class Unreadable:
    """So many subscribers that nobody can list."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[None]:
        raise RuntimeError("cannot be listed")
