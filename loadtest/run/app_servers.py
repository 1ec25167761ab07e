"""A process of app servers: `python -m loadtest.run.app_servers`, led by `loadtest.run.leader`.

Open loop: a message is due when the schedule says so, whether or not earlier ones were answered.
Messages of one stream wait for each other, so that their order is known; the wait counts.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

import msgspec

from loadtest.http import HttpConnection, Response, encode_request, open_connection
from loadtest.run.account import Sent
from loadtest.run.histogram import Histogram
from loadtest.run.layout import Layout
from loadtest.run.member import MemberError, run_member
from loadtest.run.observed import DUE, NUMBER, STREAM
from loadtest.run.protocol import Command, Done, Halt, Ids, Load, SenderTick
from loadtest.run.schedule import Schedule
from sdk_client.backoff import Backoff

_OK: Final = 200
_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_TIMEOUT_S: Final = 10.0
_BACKLOG: Final = 200_000
"""With so many due and unanswered, sending stops: the gateway is not up to the rate."""
_BACKOFF_S: Final = (0.05, 2.0)


class _Error(msgspec.Struct):
    code: int = 0


class _Item(msgspec.Struct):
    name: str = ""
    error: _Error | None = None


class _Batch(msgspec.Struct):
    responses: list[_Item]


class Stream:
    """All messages to one target, one after another.

    Args:
        name: in the account.
        target: in a message.
        audience: how many devices it goes to.
    """

    __slots__ = ("audience", "busy", "due_ns", "ids", "name", "sent", "target")

    def __init__(self, name: str, target: dict[str, object], audience: int) -> None:
        self.name = name
        self.target = target
        self.audience = audience
        self.due_ns: deque[int] = deque()
        """When each message was due that has no request yet."""
        self.busy = False
        """Whether a message is on its way, or the stream waits for a connection."""
        self.sent = Sent()
        self.ids: list[str] = []
        """Of each message by its number, from 1 on; empty where it was not accepted."""


class _Message(msgspec.Struct):
    """One message on its way."""

    stream: Stream
    number: int
    due_ns: int
    item: dict[str, object]


class AppServers:
    """The app servers of this process.

    Args:
        tasks: not needed: all that runs belongs to the command `Load`.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._sender: Sender | None = None
        self._halts: list[Halt] = []

    async def carry_out(self, command: Command) -> Done:
        """Do what a command says.

        Raises:
            MemberError: it does not fit here.
        """
        match command:
            case Load():
                self._sender = Sender(command)
                for halt in self._halts:  # told before there was anything to halt
                    self._sender.halt(now=halt.now)
                return await self._sender.run()
            case Halt(now):
                self._halts.append(command)
                if self._sender is not None:
                    self._sender.halt(now=now)
                return Done(0)
            case Ids(wanted) if self._sender is not None:
                return Done(0, ids=self._sender.ids(wanted))
            case _:
                raise MemberError("not for app servers")

    def tick(self) -> SenderTick:
        """Say what happened since the last time."""
        return self._sender.tick() if self._sender else SenderTick()


class Sender:
    """Sends what a scenario says.

    Args:
        load: the command.
    """

    def __init__(self, load: Load) -> None:
        spec = load.spec
        layout = Layout(spec, load.name)
        self._load = load
        self._spec = spec
        self._streams = {
            name: Stream(name, target, audience)
            for name, target, audience in layout.streams(load.tokens)
        }
        sizes = Counter(name.partition(" ")[0] for name in self._streams)
        self._schedule = Schedule(
            spec.rate, layout.kinds, sizes, poisson=spec.arrivals == "poisson", seed=spec.seed
        )
        self._chance = random.Random(f"sender-{spec.seed}")
        self._ready: asyncio.Queue[Stream] = asyncio.Queue()
        self._backlog = 0
        self._halted = asyncio.Event()
        self._made = False
        self._idle = asyncio.Event()
        self._over = asyncio.Event()
        self._overloaded = False
        self._conflicts: list[tuple[str, int, str]] = []
        self._tick = SenderTick()
        self._errors: Counter[str] = Counter()
        self._answer = Histogram()
        self._lag = Histogram()

    async def run(self) -> Done:
        """Send until the duration is over and everything is answered, or `settle`, or `halt`."""
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work()) for _ in range(self._spec.connections)]
            over = group.create_task(self._over.wait())
            await self._make()
            self._made = True
            self._look()
            idle = group.create_task(self._idle.wait())
            await asyncio.wait(
                (over, idle), timeout=self._spec.settle, return_when=asyncio.FIRST_COMPLETED
            )
            for task in (*workers, over, idle):
                task.cancel()
        for stream in self._streams.values():
            # Those that got a number and no answer.
            stream.sent.unknown += [
                number
                for number in range(len(stream.ids) + 1, stream.sent.last + 1)
                if number not in stream.sent.refused
            ]
        sent = {name: stream.sent for name, stream in self._streams.items() if stream.sent.last}
        return Done(0, sent=sent, conflicts=self._conflicts, overloaded=self._overloaded)

    def halt(self, *, now: bool) -> None:
        """Let nothing more become due; with `now`, also give up what has no answer."""
        self._halted.set()
        if now:
            self._over.set()

    def ids(self, wanted: Sequence[tuple[str, int]]) -> list[str]:
        """Give ids by stream and number, empty where there is none."""
        found = []
        for name, number in wanted:
            known = self._streams[name].ids if name in self._streams else []
            found.append(known[number - 1] if 0 < number <= len(known) else "")
        return found

    def tick(self) -> SenderTick:
        """Say what happened since the last time."""
        tick, self._tick = self._tick, SenderTick()
        tick.errors, tick.backlog = dict(self._errors), self._backlog
        tick.answer, tick.lag = self._answer.take(), self._lag.take()
        self._errors.clear()
        return tick

    async def _make(self) -> None:
        """Have each message become due at its time."""
        begun_ns = time.monotonic_ns()
        end_s = self._spec.duration
        if not self._spec.rate:
            await self._rest(end_s)
            return
        for count, (at_s, kind, number) in enumerate(self._schedule.due()):
            due_ns = begun_ns + int(at_s * 1e9)
            wait_s = (due_ns - time.monotonic_ns()) / 1e9
            if at_s >= end_s or self._halted.is_set():
                return
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif not count % 64:
                await asyncio.sleep(0)  # behind: let the answers in all the same
            self._tick.due += 1
            self._backlog += 1
            if self._backlog > _BACKLOG:
                self._overloaded = True
                return
            stream = self._streams[f"{kind} {number}"]
            stream.due_ns.append(due_ns)
            if not stream.busy:
                stream.busy = True
                self._ready.put_nowait(stream)

    async def _rest(self, seconds: float) -> None:
        """Let the time pass: the scenario sends nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._halted.wait()

    def _look(self) -> None:
        if self._made and not self._backlog:
            self._idle.set()

    async def _work(self) -> None:
        """Send on one connection, batch after batch."""
        connection: HttpConnection | None = None
        try:
            while True:
                streams = [await self._ready.get()]
                while len(streams) < self._spec.batch and not self._ready.empty():
                    streams.append(self._ready.get_nowait())
                messages = [self._next(stream) for stream in streams]
                connection = await self._deliver(connection, messages)
                for stream in streams:
                    self._backlog -= 1
                    if stream.due_ns:
                        self._ready.put_nowait(stream)
                    else:
                        stream.busy = False
                self._look()
        finally:
            if connection is not None:
                connection.close()

    def _next(self, stream: Stream) -> _Message:
        due_ns = stream.due_ns.popleft()
        stream.sent.last += 1
        number = stream.sent.last
        self._lag.note(due_ns, time.monotonic_ns())
        data = {STREAM: stream.name, NUMBER: str(number), DUE: str(due_ns)}
        used = sum(len(key) + len(value) for key, value in data.items())
        data["fill"] = "x" * max(0, self._spec.payload - used - len("fill"))
        spec = self._spec
        message = {
            **stream.target,
            "data": data,
            "ttl": f"{float(spec.ttl):g}s",
            "priority": spec.priority,
            "receipts": spec.receipts,
        }
        key = f"{self._load.name}/{stream.name.replace(' ', '/')}/{number}"
        return _Message(stream, number, due_ns, {"message": message, "idempotency_key": key})

    async def _deliver(
        self, connection: HttpConnection | None, messages: list[_Message]
    ) -> HttpConnection | None:
        """Send until each is answered for good; gives the connection to go on with."""
        backoff = Backoff(self._chance.uniform, *_BACKOFF_S)
        waiting = messages
        while waiting:
            connection, answers = await self._attempt(connection, waiting)
            left = []
            for message, (status, name) in zip(waiting, answers, strict=True):
                if status == _OK:
                    self._accepted(message, name)
                    continue
                self._errors[str(status) if status else "no answer"] += 1
                if not status or status in _RETRIED:
                    left.append(message)
                else:
                    message.stream.sent.refused.append(message.number)
                    message.stream.ids.append("")
            if left:
                await asyncio.sleep(backoff.wait_s())
            waiting = left
        repeated = [one for one in messages if self._chance.random() < self._spec.duplicates]
        if repeated:
            connection = await self._repeat(connection, repeated)
        return connection

    async def _repeat(
        self, connection: HttpConnection | None, messages: list[_Message]
    ) -> HttpConnection | None:
        """Send again under the same keys: the same ids must come back."""
        connection, answers = await self._attempt(connection, messages)
        for message, (status, name) in zip(messages, answers, strict=True):
            self._tick.duplicates += 1
            known = message.stream.ids[message.number - 1]
            if status == _OK and known and _id_of(name) != known:
                self._conflicts.append((message.stream.name, message.number, _id_of(name)))
        return connection

    def _accepted(self, message: _Message, name: str) -> None:
        stream, found = message.stream, _id_of(name)
        stream.ids.append(found)
        self._answer.note(message.due_ns, time.monotonic_ns())
        self._tick.accepted += 1
        self._tick.expected += stream.audience
        if self._load.tell_ids:
            self._tick.ids.append((stream.name, message.number, found))

    async def _attempt(
        self, connection: HttpConnection | None, messages: list[_Message]
    ) -> tuple[HttpConnection | None, list[tuple[int, str]]]:
        """Send once; gives a status and a name for each, status 0 where there was no answer."""
        place = self._load.place
        batch = len(messages) > 1
        body = {"messages": [one.item for one in messages]} if batch else messages[0].item
        request = encode_request(
            "POST",
            place.api,
            f"/v1/projects/{place.project}/messages:{'sendBatch' if batch else 'send'}",
            msgspec.json.encode(body),
            Authorization=f"Bearer {place.api_key}",
        )
        try:
            if connection is None or not connection.usable:
                connection = await open_connection(place.api)
            answer = await connection.request(request, timeout_s=_TIMEOUT_S)
        except (OSError, TimeoutError):
            return None, [(0, "")] * len(messages)
        return connection, _read(answer, len(messages), batch=batch)


def _read(answer: Response, count: int, *, batch: bool) -> list[tuple[int, str]]:
    if answer.status != _OK:
        return [(answer.status, "")] * count
    if not batch:
        return [(_OK, msgspec.json.decode(answer.body, type=_Item).name)]
    return [
        (_OK, item.name) if item.name else (item.error.code if item.error else 0, "")
        for item in msgspec.json.decode(answer.body, type=_Batch).responses
    ]


def _id_of(name: str) -> str:
    return name.rpartition("/")[2]


if __name__ == "__main__":
    run_member(AppServers)
