"""A process that is led over its standard streams: one JSON command a line, one JSON answer a line.

A process of its own, so that what it does is neither in the server's CPU time nor in the way of
the clock of whoever leads it.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final, Generic, Protocol, TypeVar

import msgspec

_LINE_BYTES: Final = 256 * 1024 * 1024
_SHOWN: Final = 3
"""How many of several errors an answer tells."""


class Answered(Protocol):
    """What every answer has."""

    error: str
    """Why the command could not be carried out; empty where it was."""


CommandT = TypeVar("CommandT")
AnswerT = TypeVar("AnswerT", bound=Answered)


class LedProcess(Generic[AnswerT]):
    """Leads one process; `led_process` starts one.

    Args:
        process: with pipes for both of its streams.
        answer: the type of its answers.
    """

    def __init__(self, process: asyncio.subprocess.Process, answer: type[AnswerT]) -> None:
        self._process = process
        self._answer = answer

    async def ask(self, command: msgspec.Struct) -> AnswerT:
        """Send a command and wait for its answer.

        Raises:
            ConnectionError: the process could not do it, or died.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise ConnectionError("the process has no streams")
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise ConnectionError("the process died")
        answer = msgspec.json.decode(line, type=self._answer)
        if answer.error:
            raise ConnectionError(answer.error)
        return answer


@contextlib.asynccontextmanager
async def led_process(module: str, answer: type[AnswerT]) -> AsyncIterator[LedProcess[AnswerT]]:
    """Start `python -m module`, and end it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    try:
        yield LedProcess(process, answer)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def obey(
    decoder: msgspec.json.Decoder[CommandT],
    carry_out: Callable[[CommandT], Coroutine[object, object, Answered]],
    refuse: Callable[[str], Answered],
) -> None:
    """Read commands until standard input ends, and answer each."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            answer = await carry_out(decoder.decode(line))
        except (OSError, ExceptionGroup) as error:
            causes = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
            answer = refuse("; ".join(map(str, causes[:_SHOWN])))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
