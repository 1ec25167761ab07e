"""Who waits for a topic's log gets all of it, whenever it asked."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from typing_extensions import override

from gateway.shard.events import Action, ReadTopic, Relay
from gateway.shard.local_topic import LocalTopic
from gateway.shard.pace import Pace
from gateway.shard.session import Session
from gateway.shard.session.published import Counts
from gateway.shard.tail import Tails
from gateway.shard.topic_reader import TopicReader
from gateway.shard.turns import Turns
from gateway.shard.writers import Writers
from router.model.ids import ProjectId, TopicName
from router.model.lane import Lane
from router.model.topic import LogEntry, LogPage
from router.store.topics import Topics
from router.telemetry.metrics import Metrics
from tests.support.waiting import eventually
from tests.unit.shard.driver import START_MS, Lead
from tests.unit.shard.test_session_topics import published, seqs

HEAD = 6
NEWS = TopicName("news")


class SlowLog(Topics):
    """A log of messages 1 to `HEAD`, which gives nothing until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()

    @override
    async def read(self, project: ProjectId, topic: TopicName, after: int) -> LogPage:
        self.begun.set()
        await self.let_go.wait()
        items = [published(seq) for seq in range(after + 1, HEAD + 1)]
        entries = [
            LogEntry(one.seq, one.message, one.expires_ms, one.receipts, "", one.frame)
            for one in items
        ]
        return LogPage(tuple(entries), HEAD, full=False)


class Reading:
    """A session that is behind, and what it was sent."""

    def __init__(self, topic: LocalTopic, cursor: int) -> None:
        self.session: Session = Lead().live().session
        self.open = True
        self.got: list[int] = []
        self.wants = [
            action
            for action in self.session.on_topics([(topic, cursor)], START_MS)
            if isinstance(action, ReadTopic)
        ]

    def carry_out(self, actions: Sequence[Action]) -> None:
        self.got += seqs([action for action in actions if isinstance(action, Relay)])

    def abort(self) -> None:
        raise AssertionError("the session broke")


async def test_a_session_that_asks_during_a_read_from_behind_its_cursor_misses_nothing() -> None:
    log, topic = SlowLog(), LocalTopic(ProjectId("p"), NEWS, Counts())
    topic.head = HEAD
    topic.tail.jump(HEAD)
    ahead, behind = Reading(topic, 4), Reading(topic, 1)

    async with asyncio.TaskGroup() as tasks:
        metrics = Metrics(CollectorRegistry())
        writers = Writers(Turns(), Pace(0), metrics, tasks)
        reader = TopicReader(log, metrics, lambda: START_MS, tasks, writers, Tails(1 << 20))
        reader.ask(ahead, topic, *ahead.wants)
        await log.begun.wait()
        reader.ask(behind, topic, *behind.wants)
        # It was put into line by a call that was scheduled before this turn.
        await asyncio.sleep(0)
        log.let_go.set()

    assert ahead.got == [5, 6]
    assert behind.got == [2, 3, 4, 5, 6]


async def test_those_who_waited_for_a_read_are_answered_at_the_pace_of_their_project() -> None:
    """What they are given is no debt of seconds behind which a critical message would wait."""
    log, topic = SlowLog(), LocalTopic(ProjectId("p"), NEWS, Counts())
    topic.head = HEAD
    topic.tail.jump(HEAD)
    waiting = [Reading(topic, 0) for _ in range(250)]
    pace, metrics = Pace(1_000), Metrics(CollectorRegistry())

    async with asyncio.TaskGroup() as tasks:
        writers = Writers(Turns(), pace, metrics, tasks)
        reader = TopicReader(log, metrics, lambda: START_MS, tasks, writers, Tails(1 << 20))
        for one in waiting:
            reader.ask(one, topic, *one.wants)
        await log.begun.wait()
        log.let_go.set()
        await eventually(lambda: any(one.got for one in waiting))
        now_s = asyncio.get_running_loop().time()
        assert pace.wait_s(topic.project, Lane.CRITICAL, now_s) <= 0
        assert not all(one.got for one in waiting), "the others have to wait"
        for task in asyncio.all_tasks():
            if task.get_name().startswith("writers-"):
                task.cancel()
