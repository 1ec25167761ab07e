"""Foreign servers as children: on a free port of loopback, ended by their pid."""

import asyncio
import contextlib
import random
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

_START_S: Final = 60.0
_STOP_S: Final = 10.0
_PORTS: Final = range(20_000, 32_000)
"""Below those that the kernel gives to connections, which may take any of its own meanwhile."""
_SHOWN: Final = 1_000
"""Bytes of a log in an error."""


def find_binary(name: str) -> str | None:
    """Find a program; Debian has servers in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def free_port() -> int:
    """Find a port of loopback that nobody listens at."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


@contextlib.asynccontextmanager
async def child(words: Sequence[str], port: int, log_path: Path) -> AsyncIterator[int]:
    """Run a server in the foreground until the end; gives its pid when it listens at `port`.

    Raises:
        ConnectionError: it did not come up; with the end of its log.
    """
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
    try:
        if not await _listening(process, port):
            raise ConnectionError(f"{words[0]} did not come up: {_tail(log_path)}")
        yield process.pid
    finally:
        await stop(process, _STOP_S)


async def first_line(words: Sequence[str]) -> str:
    """Give the first line of what a program prints, to tell its version by."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    return printed.decode(errors="replace").partition("\n")[0]


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-_SHOWN:]


async def _listening(process: asyncio.subprocess.Process, port: int) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_S):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                return True
    return False


async def stop(process: asyncio.subprocess.Process, within_s: float) -> None:
    """End a process: asked at first, killed where it has not gone within so many seconds."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.wait()
