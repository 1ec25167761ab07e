"""A process that the leader leads over its standard streams; both ends.

Processes of their own, so that devices, app servers and the screen do not keep each other from
their clocks, and so that their CPU time is not the gateway's. One whose leader is gone ends.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

import uvloop

from loadtest.run.protocol import (
    Command,
    DeviceTick,
    Done,
    Order,
    Report,
    SenderTick,
    encode,
    order_decoder,
    report_decoder,
)
from loadtest.senders import SendError

TICK_S: Final = 0.5
_LINE_BYTES: Final = 256 * 1024 * 1024
_SHOWN: Final = 3

Tick = DeviceTick | SenderTick


class MemberError(Exception):
    """A process could not do what it was told, or died."""


class Member:
    """The leader's end. `member` makes one.

    Args:
        process: with pipes for its standard input and output.
        took: told of each tick.
    """

    def __init__(self, process: asyncio.subprocess.Process, took: Callable[[Tick], None]) -> None:
        self._process = process
        self._took = took
        self._waiting: dict[int, asyncio.Future[Done]] = {}
        self._number = 0
        self._over = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def ask(self, command: Command) -> Done:
        """Give a command and wait for what comes of it.

        Raises:
            MemberError: the process could not do it, or died.
        """
        stdin = self._process.stdin
        if stdin is None or self._over:
            raise MemberError("a process of the load test died")
        self._number += 1
        answered: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = answered
        stdin.write(encode(Order(self._number, command)) + b"\n")
        try:
            done = await answered
        finally:
            self._waiting.pop(self._number, None)
        if done.error:
            raise MemberError(done.error)
        return done

    def tell(self, command: Command) -> None:
        """Give a command whose outcome does not matter."""
        if self._process.stdin is not None and not self._over:
            self._number += 1
            order = encode(Order(self._number, command))
            self._process.stdin.write(order + b"\n")

    async def listen(self) -> None:
        """Take what the process says, until it ends."""
        stdout = self._process.stdout
        if stdout is None:
            return
        decoder = report_decoder()
        while line := await stdout.readline():
            report = decoder.decode(line)
            if not isinstance(report, Done):
                self._took(report)
                continue
            waiting = self._waiting.pop(report.number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(report)
        self._over = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(MemberError("a process of the load test died"))


@contextlib.asynccontextmanager
async def member(module: str, took: Callable[[Tick], None]) -> AsyncIterator[Member]:
    """Start `python -m module`, and end it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # the terminal's Ctrl-C is for the leader alone
        limit=_LINE_BYTES,
    )
    found = Member(process, took)
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(found.listen())
            yield found
            listening.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Role(Protocol):
    """What a process does."""

    async def carry_out(self, command: Command) -> Done:
        """Do what a command says; the answer's number is set for it."""
        ...

    def tick(self) -> Tick:
        """Say what happened since the last time."""
        ...


async def serve(make: Callable[[asyncio.TaskGroup], Role]) -> None:
    """Be a process that is led, until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    decoder = order_decoder()

    def say(report: Report) -> None:
        out.write(encode(report) + b"\n")

    async with asyncio.TaskGroup() as group:
        role = make(group)

        async def obey(order: Order) -> None:
            try:
                done = await role.carry_out(order.command)
                done.number = order.number
            except (OSError, ValueError, MemberError, SendError, ExceptionGroup) as error:
                done = Done(order.number, error=_text(error))
            say(role.tick())
            say(done)

        async def report() -> None:
            while True:
                await asyncio.sleep(TICK_S)
                say(role.tick())

        group.create_task(report())
        while line := await reader.readline():
            group.create_task(obey(decoder.decode(line)))
        raise _LeaderGoneError


class _LeaderGoneError(Exception):
    """Ends everything that the process does."""


def run_member(make: Callable[[asyncio.TaskGroup], Role]) -> None:
    """Run `serve` as the whole of a process."""

    async def main() -> None:
        try:
            await serve(make)
        except* _LeaderGoneError:
            pass

    uvloop.run(main())


def flattened(error: BaseException) -> list[BaseException]:
    """Give the errors of a group, and of groups in it, or the one error."""
    if isinstance(error, BaseExceptionGroup):
        return [inner for cause in error.exceptions for inner in flattened(cause)]
    return [error]


def _text(error: BaseException) -> str:
    causes = flattened(error)[:_SHOWN]
    return "; ".join(str(cause) or type(cause).__name__ for cause in causes)
