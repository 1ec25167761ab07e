"""Messages to all sessions of a topic: which go at once, which wait, and in what order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

from prometheus_client import CollectorRegistry

from gateway.shard.fan_outs import MAX_FAN_OUTS, MAX_OF_TOPIC, FanOuts
from gateway.shard.local_topic import LocalTopic, Subscriber
from gateway.shard.pace import Pace
from gateway.shard.session.published import Counts, Item
from gateway.shard.turns import SLICE, Turns
from gateway.shard.writers import Writers
from router.model.ids import MessageId, ProjectId, TopicName
from router.model.lane import Lane
from router.model.message import ReceiptMode
from router.telemetry.metrics import Metrics

A, B = ProjectId("a"), ProjectId("b")


class World:
    """Topics with subscribers that are only counted."""

    def __init__(self, tasks: asyncio.TaskGroup, rate: float) -> None:
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        # Strict: `Turns` has a test of its own for what keeps the others from starving.
        self.writers = Writers(Turns(share=1_000_000), Pace(rate), metrics, tasks)
        self.fan_outs = FanOuts(self._write, self.writers, metrics)
        self.written: list[str] = []
        """Each message once it has been written to all; a look at the log as `look`."""
        self.deliveries = 0
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

    def waiting(self, lane: Lane) -> float | None:
        self.fan_outs.show()
        return self.registry.get_sample_value("pushwire_fan_outs_waiting", {"priority": lane.label})

    def _write(self, local: LocalTopic, item: Item | None, peers: Sequence[Subscriber]) -> None:
        name = f"{local.name} looks" if item is None else str(item.message)
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
