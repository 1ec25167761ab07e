"""The store, and the way to it: one pipeline a process, in order, that loses and delays."""

import asyncio
import enum
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar, cast

from router.model.errors import StoreOutcomeUnknownError, StoreUnavailableError
from router.model.hint import AnyHint, decode_hints, encode_hints
from router.model.ids import (
    DeviceId,
    MessageId,
    Partition,
    ShardId,
    partition_of,
    partition_of_message,
)
from router.model.lane import Lane
from router.model.mailbox import Enqueued, Envelope
from router.store.timers import EXPIRE, REDELIVER
from tests.simulation.context import Context, Line

T = TypeVar("T")

DEADLINE_S: Final = 2.0
"""As `StoreOptions.deadline_s`."""
_RECONNECT_S: Final = 0.5
_Step = Callable[[], None]


class Inbox:
    """The stream of hints to one shard."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.news = asyncio.Event()

    def append(self, now_ms: int, entry: bytes) -> None:
        self.entries.append((now_ms, entry))
        self.news.set()


class StoreServer:
    """What the processes share. Each step of it happens at once."""

    def __init__(self, context: Context) -> None:
        self.mailboxes = context.mailboxes
        self.inboxes: dict[tuple[ShardId, Lane], Inbox] = {}
        self.leases: dict[ShardId, int] = {}
        """Until when, epoch milliseconds."""
        self.stalled_until = 0.0

    def live(self, now_ms: int) -> dict[ShardId, bytes]:
        return {shard: b"" for shard, until_ms in self.leases.items() if until_ms > now_ms}

    def due(self, partition: Partition, now_ms: int) -> list[tuple[str, str]]:
        return [
            (kind, subject)
            for kind, subject in self.mailboxes.due(now_ms)
            if _partition_of_timer(kind, subject) == partition
        ]


def _partition_of_timer(kind: str, subject: str) -> Partition:
    if kind in {REDELIVER, EXPIRE}:
        return partition_of(DeviceId(subject))
    return partition_of_message(MessageId(subject))


class _Fate(enum.Enum):
    SERVED = "served"
    REFUSED = "refused"
    LOST = "request lost"
    SILENT = "answer lost"
    REPEATED = "repeated"


class StorePort:
    """The pipeline of one process: commands arrive in order, and so do their answers.

    A dead process hears no answers; what it sent before is carried out all the same.
    """

    def __init__(self, context: Context, server: StoreServer, owner: str) -> None:
        self.context = context
        self.server = server
        self.owner = owner
        self.alive = True
        self.stalled_until = 0.0
        self._there = Line(context)
        self._back = Line(context)

    async def call(self, what: str, step: Callable[[], T]) -> T:
        """Have a step carried out.

        Raises:
            StoreUnavailableError: it was not carried out, and will not be.
            StoreOutcomeUnknownError: it was, or will be, or not.
        """
        context = self.context
        answer: asyncio.Future[Any] = context.loop.create_future()
        if not self.alive:
            return cast("T", await answer)
        fate = self._fate()
        if fate is not _Fate.SERVED:
            context.note(self.owner, f"{what}: {fate.value}")
        if fate is _Fate.REFUSED:
            self._fail(answer, StoreUnavailableError(), context.rng.uniform(0, DEADLINE_S))
            return cast("T", await answer)
        # A command behind others that are not answered is withdrawn at its deadline.
        withdrawn = fate is _Fate.SERVED and context.happens(0.5)
        error = StoreUnavailableError() if withdrawn else StoreOutcomeUnknownError()
        self._fail(answer, error, DEADLINE_S)

        def arrive() -> None:
            if withdrawn and answer.done():
                return
            result = step()
            context.checks.on_store()
            if fate is not _Fate.SILENT:
                self._back.after(self._delay(), lambda: self._answer(answer, result))

        if fate is _Fate.REPEATED:
            self._send(lambda: self._carry_out(step))
            self._send(arrive, context.rng.uniform(0, _RECONNECT_S))
        elif fate is not _Fate.LOST:
            self._send(arrive)
        return cast("T", await answer)

    def _send(self, step: _Step, later_s: float = 0.0) -> None:
        context = self.context
        stalled_until = max(self.server.stalled_until, self.stalled_until)
        stalled_until += context.rng.uniform(0, 0.01)
        self._there.after(self._delay() + later_s, step, not_before=stalled_until)

    def _carry_out(self, step: Callable[[], object]) -> None:
        step()
        self.context.checks.on_store()

    def _delay(self) -> float:
        return self.context.rng.uniform(0, self.context.faults.store_delay_s)

    def _fate(self) -> _Fate:
        context, faults = self.context, self.context.faults
        if context.happens(faults.store_refuses):
            return _Fate.REFUSED
        if context.happens(faults.store_silent):
            return _Fate.SILENT if context.happens(0.5) else _Fate.LOST
        return _Fate.REPEATED if context.happens(faults.store_repeats) else _Fate.SERVED

    def _answer(self, answer: asyncio.Future[Any], result: object) -> None:
        if self.alive and not answer.done():
            answer.set_result(result)

    def _fail(self, answer: asyncio.Future[Any], error: Exception, after_s: float) -> None:
        def fail() -> None:
            if self.alive and not answer.done():
                answer.set_exception(error)

        self.context.loop.call_later(after_s, fail)


class MailboxPort:
    """`router.store.mailbox.Mailboxes` over a port."""

    def __init__(self, port: StorePort) -> None:
        self._port = port

    def begin_enqueue(
        self, envelope: Envelope, *, urgent: bool = False
    ) -> asyncio.Future[Enqueued]:
        """Begin `enqueue` without waiting."""
        del urgent  # calls overtake each other here anyway
        mailboxes = self._port.server.mailboxes
        call = self._port.call("enqueue", lambda: at_once(mailboxes.enqueue(envelope)))
        return self._port.context.loop.create_task(call)

    def begin_ack(self, *args: Any) -> asyncio.Future[Any]:
        """Begin `ack` without waiting."""
        return self._port.context.loop.create_task(self.ack(*args))

    @staticmethod
    def enqueued(envelope: Envelope, reply: Enqueued) -> Enqueued:
        """Read what `begin_enqueue` was answered."""
        del envelope
        return reply

    def __getattr__(self, name: str) -> Callable[..., Coroutine[None, None, Any]]:
        async def method(*args: Any) -> Any:
            real = getattr(self._port.server.mailboxes, name)
            return await self._port.call(name, lambda: at_once(real(*args)))

        return method


def at_once(steps: Coroutine[None, None, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("the model waits for something")


class InboxPort:
    """`router.store.inbox.Inboxes` over a port; a shard reads over a connection of its own."""

    def __init__(self, port: StorePort) -> None:
        self._port = port

    async def append(self, shard: ShardId, hints: Sequence[AnyHint], lane: Lane) -> bool:
        return await self._port.call("hint", lambda: self._append(shard, encode_hints(hints), lane))

    def _append(self, shard: ShardId, entry: bytes, lane: Lane) -> bool:
        context = self._port.context
        inbox = self._port.server.inboxes.get((shard, lane))
        if inbox is None:
            return False
        if context.happens(context.faults.hint_lost):
            context.note("store", f"a hint to {shard} is lost")
        else:
            inbox.append(context.now_ms(), entry)
        return True

    async def open(self, shard: ShardId) -> None:
        await self._port.call("open inbox", lambda: self._open(shard))

    def _open(self, shard: ShardId) -> None:
        for lane in Lane:
            self._port.server.inboxes.setdefault((shard, lane), Inbox())

    async def close(self, shard: ShardId) -> None:
        await self._port.call("close inbox", lambda: self._close(shard))

    def _close(self, shard: ShardId) -> None:
        for lane in Lane:
            self._port.server.inboxes.pop((shard, lane), None)

    async def reader(
        self, shard: ShardId, lane: Lane
    ) -> AsyncGenerator[tuple[int, list[AnyHint]], None]:
        context, server = self._port.context, self._port.server
        inbox = server.inboxes[shard, lane]
        while True:
            await inbox.news.wait()
            delay_s = context.rng.uniform(0, context.faults.inbox_delay_s)
            await asyncio.sleep(max(delay_s, server.stalled_until - context.now()))
            entries, inbox.entries = inbox.entries, []
            inbox.news.clear()
            for time_ms, entry in entries:
                yield time_ms, decode_hints(entry)


class LeasePort:
    """`router.store.leases.Leases` over a port, as far as shards go."""

    def __init__(self, port: StorePort) -> None:
        self._port = port

    async def shards(self) -> dict[ShardId, bytes]:
        port = self._port
        return await port.call("shards", lambda: port.server.live(port.context.now_ms()))

    async def shard_renew(self, shard: ShardId, value: bytes, ttl_ms: int) -> None:
        del value
        port = self._port

        def renew() -> None:
            port.server.leases[shard] = port.context.now_ms() + ttl_ms

        await port.call("renew lease", renew)

    async def shard_drop(self, shard: ShardId) -> None:
        await self._port.call("drop lease", lambda: self._port.server.leases.pop(shard, None))


class TimerPort:
    """`router.store.timers.Timers` over a port."""

    def __init__(self, port: StorePort) -> None:
        self._port = port

    async def due(
        self, partition: Partition, worker: str, now_ms: int, limit: int
    ) -> list[tuple[str, str]]:
        del worker  # both own all partitions: that may be so for a moment, and must do no harm
        server = self._port.server
        return await self._port.call("due", lambda: server.due(partition, now_ms)[:limit])

    async def done(self, partition: Partition, kind: str, subject: str, due_ms: int) -> None:
        raise AssertionError(f"nobody set {kind}:{subject} in {partition}, due at {due_ms}")
