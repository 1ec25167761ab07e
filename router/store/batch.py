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

from router.model.errors import (
    PushError,
    StoreOutcomeUnknownError,
    StoreRefusedError,
    StoreReplyError,
    StoreUnavailableError,
)
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
_REFUSED: Final = {
    "OOM": "The store is out of memory: raise its maxmemory or wait for messages to expire.",
    "MISCONF": "The store cannot write to its disk: look into its log.",
    "NOREPLICAS": "The store has too few replicas to accept writes.",
}


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


class Command:
    """One command on its way: its bytes, who waits for it, until when."""

    __slots__ = ("deadline", "future", "packed", "sent", "urgent")

    def __init__(
        self,
        packed: bytes,
        future: asyncio.Future[Reply],
        deadline: float,
        urgent: bool,  # noqa: FBT001 - one is made for every command
    ) -> None:
        self.packed = packed
        self.future = future
        self.deadline = deadline
        self.urgent = urgent
        self.sent = False


Redirect = Callable[[list[tuple[Command, str]]], None]


def _error_of(reply: ReplyError) -> PushError:
    text = str(reply)
    if (known := _REFUSED.get(text.partition(" ")[0])) is not None:
        return StoreRefusedError(known)
    return StoreReplyError(f"The store refused a command: {text}")


def _fail(future: asyncio.Future[Reply], error: PushError) -> None:
    future.set_exception(error)
    # Who waits for several commands gives up at the first that failed: no complaint about the rest.
    future.exception()


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
        if self._closed or self.waiting() >= room:
            _fail(future, StoreUnavailableError())
            return future
        deadline = loop.time() + (self._deadline_s if deadline_s is None else deadline_s)
        queue = self._urgent if urgent else self._queue
        queue.append(Command(pack(args), future, deadline, urgent))
        if self._link is not None and not self._scheduled and not self._flying:
            self._scheduled = True
            loop.call_soon(self._flush)
        if self._sweeper is None or deadline < self._sweep_at:
            self._sweep_by(deadline)
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
            self._show_queue()
        return taken

    def put(self, commands: Iterable[Command]) -> None:
        """Take over commands that waited elsewhere, behind those that wait here."""
        for command in commands:
            if command.future.done():
                continue
            (self._urgent if command.urgent else self._queue).append(command)
            if self._sweeper is None or command.deadline < self._sweep_at:
                self._sweep_by(command.deadline)
        if self._link is not None and not self._scheduled and not self._flying:
            self._scheduled = True
            self._loop.call_soon(self._flush)

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
                if not command.future.done():
                    command.sent = True
                    flying.append(command)
        if not flying:
            return
        data = [command.packed for command in flying]
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
            elif synced:
                self._settle(command, reply)
            else:
                self._fail_unanswered(command)
        if elsewhere and self._redirect is not None:
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

    @staticmethod
    def _settle(command: Command, reply: Reply) -> None:
        future = command.future
        if future.done():
            return
        if isinstance(reply, ReplyError):
            _fail(future, _error_of(reply))
        else:
            future.set_result(reply)

    def _show_queue(self) -> None:
        self._set_queue(self.waiting())

    def waiting(self) -> int:
        """Count the commands that wait or are in flight."""
        return len(self._urgent) + len(self._queue) + len(self._flying)

    def _requeue(self, commands: list[Command]) -> None:
        for command in reversed(commands):
            (self._urgent if command.urgent else self._queue).appendleft(command)

    def _sweep(self) -> None:
        """Fail what has passed its deadline; drop a connection that has gone silent."""
        now = self._loop.time()
        earliest = float("inf")
        for command in itertools.chain(self._flying, self._urgent, self._queue):
            if command.future.done():
                continue
            if command.deadline <= now:
                self._fail_unanswered(command)
            else:
                earliest = min(earliest, command.deadline)
        self._urgent = deque(command for command in self._urgent if not command.future.done())
        self._queue = deque(command for command in self._queue if not command.future.done())
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

    @staticmethod
    def _fail_unanswered(command: Command) -> None:
        if not command.future.done():
            _fail(
                command.future,
                StoreOutcomeUnknownError() if command.sent else StoreUnavailableError(),
            )
