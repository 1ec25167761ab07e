"""One FIFO pipeline: the commands of one loop tick leave together, over one connection.

While a batch is in flight the next one gathers, so batches grow with load and shrink with latency.
Urgent commands go into the next batch before all others; among themselves both kinds keep order.
A command stays here until it is answered or its deadline passes; when the connection is lost it is
sent again in its place, which is safe as every command that Pushwire issues is idempotent.
"""

import asyncio
import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, cast

import msgspec
from hiredis import ReplyError

from router.model.errors import StoreOutcomeUnknownError, StoreUnavailableError
from router.store.command import Command, Part, Parts, fail, settle
from router.store.link import Argument, Link, Reply, pack
from router.telemetry.metrics import Metrics

_MAX_BATCH: Final = 1000
"""Commands in one pipeline at the most."""
_URGENT_SHARE: Final = 900
"""Urgent ones among them while others wait: those must not wait for ever."""
_URGENT_QUEUE: Final = 1000
"""Urgent commands that still find room where all others fill the queue."""
_STALL_S: Final = 5.0
"""A batch without an answer for so long marks the connection as dead."""
_SWEEP_S: Final = 0.05
"""Deadlines are looked at so often at the most: each look goes through all that waits."""
_RECONNECT: Final = (
    *("LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN "),
    "ERR Function not found",
)
"""Nothing was carried out; another connection, or a moment later, may do."""
_ELSEWHERE: Final = ("MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ")
"""Nothing was carried out; another node of the cluster may do, or the same one a moment later."""


class Sync(msgspec.Struct, frozen=True):
    """What ends each pipeline: its answers count once enough disks or replicas have it."""

    command: tuple[Argument, ...]
    """`WAIT`, which answers one number, or `WAITAOF`, which answers two."""
    wanted: tuple[int, ...]
    """What those have to reach."""

    def is_met(self, reply: Reply) -> bool:
        """Tell whether the answer says so."""
        if isinstance(reply, ReplyError):
            return False
        reached = cast("list[int]", reply if isinstance(reply, list) else [reply])
        return all(map(operator.ge, reached, self.wanted))


Redirect = Callable[[list[tuple[Command, str]]], None]
_Kind = tuple[str, str, bool]
"""Function, first key, whether it is urgent."""


class Batch:
    """The commands that wait for the store and those that it works on.

    Args:
        metrics: batch sizes, round trips and queue length are set here.
        deadline_s: seconds a command may take where the caller names no other.
        max_queue: commands waiting or in flight; one more fails at once. Urgent ones have some
            room besides.
        redirect: takes what this server of a cluster refused, with its words, in order.
        show_queue: takes the length of the queue; by default it is the metric.
    """

    def __init__(
        self,
        metrics: Metrics,
        deadline_s: float,
        max_queue: int,
        redirect: Redirect | None = None,
        show_queue: Callable[[int], None] | None = None,
    ) -> None:
        self._metrics = metrics
        self._redirect = redirect
        self._set_queue = show_queue or metrics.store_queue.set
        self._deadline_s = deadline_s
        self._max_queue = max_queue
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Command] = deque()
        self._urgent: deque[Command] = deque()
        self._flying: list[Command] = []
        self._waiting = 0
        self._open: dict[_Kind, tuple[Command, Parts]] = {}
        """Calls that parts may join, or might before the last pipeline left."""
        self._replies: list[Reply] = []
        self._expected = 0
        self._written_at = 0.0
        self._link: Link | None = None
        self._sync: Sync | None = None
        self._scheduled = False
        self._sweeper: asyncio.Handle | None = None
        self._sweep_at = 0.0
        self._closed = False
        self.healthy = False
        """Whether the current connection has carried a batch through."""

    def call(
        self, *args: Argument, deadline_s: float | None = None, urgent: bool = False
    ) -> asyncio.Future[Reply]:
        """Queue one command; the future gives its reply. An urgent one passes those that are not.

        The future raises StoreUnavailableError where the deadline passed or the queue is full
        (StoreOutcomeUnknownError if the command had been sent), StoreReplyError where the store
        refused this command. Cancelling it withdraws a command that was not sent yet.
        """
        loop = self._loop
        future: asyncio.Future[Reply] = loop.create_future()
        room = self._max_queue + _URGENT_QUEUE if urgent else self._max_queue
        if self._closed or self._waiting >= room:
            fail(future, StoreUnavailableError())
            return future
        deadline = loop.time() + (self._deadline_s if deadline_s is None else deadline_s)
        self._waiting += 1
        self._enter(Command(pack(args), future, deadline, urgent))
        return future

    def fcall(
        self,
        function: str,
        keys: Iterable[str],
        args: Iterable[Argument],
        deadline_s: float | None = None,
        *,
        urgent: bool = False,
    ) -> asyncio.Future[Reply]:
        """Queue one call of a server function, named in full (`Library.name`)."""
        named = tuple(keys)
        return self.call(
            "FCALL", function, len(named), *named, *args, deadline_s=deadline_s, urgent=urgent
        )

    def gather(
        self,
        function: str,
        keys: tuple[str, ...],
        args: tuple[Argument, ...],
        part: Part,
        messages: int = 1,
        *,
        urgent: bool = False,
    ) -> asyncio.Future[Reply]:
        """Queue one part of a call: all parts that wait for the same partition leave as one.

        A part may pass other commands that wait, but no part of the same function.

        Args:
            function: named in full; it answers each part by itself, in a list.
            keys: the first ones of the call, the same for all parts that have the very first.
            args: the first ones of the call, the same for all.
            part: the keys and arguments of this part.
            messages: how many it is about.
            urgent: as in `call`.
        """
        loop = self._loop
        future: asyncio.Future[Reply] = loop.create_future()
        room = self._max_queue + _URGENT_QUEUE if urgent else self._max_queue
        if self._closed or self._waiting >= room:
            fail(future, StoreUnavailableError())
            return future
        self._waiting += 1
        deadline = loop.time() + self._deadline_s
        kind = (function, keys[0], urgent)
        joined = self._open.get(kind)
        if joined is not None and joined[0].takes_more(messages, deadline):
            joined[0].parts += 1
            joined[0].messages += messages
            joined[1].add(part, future)
            return future
        parts = Parts(function, keys, args)
        parts.add(part, future)
        command = Command(b"", parts, deadline, urgent)
        command.messages = messages
        self._open[kind] = (command, parts)
        self._enter(command)
        return future

    def _enter(self, command: Command) -> None:
        (self._urgent if command.urgent else self._queue).append(command)
        if self._link is not None and not self._scheduled and not self._flying:
            self._scheduled = True
            self._loop.call_soon(self._flush)
        if self._sweeper is None or command.deadline < self._sweep_at:
            self._sweep_by(command.deadline)

    def attach(self, link: Link, sync: Sync | None = None) -> None:
        """Carry on over a fresh connection; `sync` ends each pipeline."""
        self._link = link
        self._sync = sync
        self.healthy = False
        link.on_reply = self._on_reply
        if self._queue or self._urgent:
            self._flush()

    def detach(self) -> None:
        """Take back what the lost connection did not answer, to be sent again in order."""
        self._link = None
        self._requeue(self._flying)
        self._flying = []
        self._replies = []
        self._show_queue()

    @property
    def silent_s(self) -> float:
        """How long what is in flight has been without an answer; 0 where nothing is."""
        return self._loop.time() - self._written_at if self._flying else 0.0

    def take(self, is_wanted: Callable[[Command], bool]) -> list[Command]:
        """Give up those that wait here and are wanted elsewhere, in their order."""
        taken: list[Command] = []
        for queue in (self._urgent, self._queue):
            kept: deque[Command] = deque()
            for command in queue:
                (taken if is_wanted(command) else kept).append(command)
            queue.clear()
            queue.extend(kept)
        if taken:
            self._waiting -= sum(command.parts for command in taken)
            self._show_queue()
        return taken

    def put(self, commands: Iterable[Command]) -> None:
        """Take over commands that waited elsewhere, behind those that wait here."""
        for command in commands:
            if not command.waiter.done():
                self._waiting += command.parts
                self._enter(command)

    def drop_link(self) -> None:
        """End the connection; what is in flight waits again, in its order."""
        link = self._link
        self.detach()
        if link is not None:
            link.abort()

    def close(self) -> None:
        """Fail whatever waits; later calls fail at once."""
        self._closed = True
        self.detach()
        for command in itertools.chain(self._urgent, self._queue):
            self._fail_unanswered(command)
        self._urgent.clear()
        self._queue.clear()
        self._waiting = 0
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _flush(self) -> None:
        self._scheduled = False
        if self._link is None or self._flying:
            return
        flying = self._flying
        share = _URGENT_SHARE if self._queue else _MAX_BATCH
        for queue, most in ((self._urgent, share), (self._queue, _MAX_BATCH)):
            while queue and len(flying) < most:
                command = queue.popleft()
                if command.waiter.done():
                    self._waiting -= command.parts
                    continue
                command.sent = True
                flying.append(command)
        if not self._queue and not self._urgent:
            self._open.clear()  # they would hold on to what is sent
        if not flying:
            return
        data = [command.packed or command.seal() for command in flying]
        self._expected = len(flying)
        if self._sync is not None:
            data.append(pack(self._sync.command))
            self._expected += 1
        self._written_at = self._loop.time()
        self._show_queue()
        self._link.write(b"".join(data))

    def _on_reply(self, reply: Reply) -> None:
        replies = self._replies
        replies.append(reply)
        if len(replies) == self._expected:
            self._finish()

    def _finish(self) -> None:
        flying, replies = self._flying, self._replies
        self._flying, self._replies = [], []
        metrics = self._metrics
        metrics.store_latency.observe(self._loop.time() - self._written_at)
        metrics.store_batch.observe(len(flying))
        synced = self._sync is None or self._sync.is_met(replies.pop())
        again: list[Command] = []
        elsewhere: list[tuple[Command, str]] = []
        for command, reply in zip(flying, replies, strict=True):
            if isinstance(reply, ReplyError) and self._put_by(command, reply, again, elsewhere):
                command.sent = False
                continue
            self._waiting -= command.parts
            if not synced:
                self._fail_unanswered(command)
            elif not command.waiter.done():
                settle(command.waiter, reply)
        if elsewhere and self._redirect is not None:
            self._waiting -= sum(command.parts for command, _ in elsewhere)
            self._redirect(elsewhere)
        if again:
            self._requeue(again)
            if self._link is not None:
                self._link.abort()
                self._link = None
            return
        self.healthy = True
        if self._queue or self._urgent:
            self._flush()
        else:
            self._set_queue(0)

    def _put_by(
        self,
        command: Command,
        reply: ReplyError,
        again: list[Command],
        elsewhere: list[tuple[Command, str]],
    ) -> bool:
        """Keep a command that nothing was done about, to be sent once more."""
        words = str(reply)
        if self._redirect is not None and words.startswith(_ELSEWHERE):
            elsewhere.append((command, words))
        elif words.startswith(_RECONNECT):
            again.append(command)
        else:
            return False
        return True

    def _show_queue(self) -> None:
        self._set_queue(self._waiting)

    def waiting(self) -> int:
        """Count the calls that wait or are in flight."""
        return self._waiting

    def _requeue(self, commands: list[Command]) -> None:
        for command in reversed(commands):
            (self._urgent if command.urgent else self._queue).appendleft(command)

    def _sweep(self) -> None:
        """Fail what has passed its deadline; drop a connection that has gone silent."""
        now = self._loop.time()
        earliest = float("inf")
        for command in itertools.chain(self._flying, self._urgent, self._queue):
            if command.waiter.done():
                continue
            if command.deadline <= now:
                self._fail_unanswered(command)
            else:
                earliest = min(earliest, command.deadline)
        self._urgent = self._without_done(self._urgent)
        self._queue = self._without_done(self._queue)
        if self._flying:
            if now - self._written_at >= _STALL_S and self._link is not None:
                self._link.abort()
            else:
                earliest = min(earliest, self._written_at + _STALL_S)
        self._sweeper = None
        if earliest != float("inf"):
            self._sweep_by(max(earliest, now + _SWEEP_S))
        self._show_queue()

    def _sweep_by(self, deadline: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        # Not `when()` later on: what uvloop gives for less than a millisecond does not have it.
        self._sweep_at = deadline
        self._sweeper = self._loop.call_at(deadline, self._sweep)

    def _without_done(self, queue: deque[Command]) -> deque[Command]:
        self._waiting -= sum(command.parts for command in queue if command.waiter.done())
        return deque(command for command in queue if not command.waiter.done())

    @staticmethod
    def _fail_unanswered(command: Command) -> None:
        if not command.waiter.done():
            error = StoreOutcomeUnknownError() if command.sent else StoreUnavailableError()
            fail(command.waiter, error)
