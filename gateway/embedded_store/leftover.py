"""A store server that a killed owner left behind: find it, and stop it."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import structlog

from gateway.embedded_store.directory import StoreError, remove

_ASK_DEADLINE_S: Final = 2.0
_STOP_DEADLINE_S: Final = 15.0
_POLL_S: Final = 0.02

_log: structlog.stdlib.BoundLogger = structlog.get_logger("embedded_store")


async def ask(socket: Path, *words: str) -> str:
    """Send one command to a server and give its reply: a status, an error, or a bulk text.

    Statuses keep their `+`, errors their `-`; the empty text means that nobody answered in time.
    """
    try:
        async with asyncio.timeout(_ASK_DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write((" ".join(words) + "\r\n").encode())
                line = (await reader.readline()).decode().strip()
                if not line.startswith("$"):
                    return line
                return (await reader.readexactly(int(line[1:]))).decode()
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return ""


async def evict(data_dir: Path, socket: Path) -> None:
    """Stop the server that a killed owner left in the directory.

    Raises:
        StoreError: it cannot be stopped.
    """
    pid = await _left_behind(data_dir, socket)
    if pid:
        _log.warning("store.left_behind", pid=pid)
        for number, deadline_s in ((signal.SIGTERM, _STOP_DEADLINE_S), (signal.SIGKILL, 5.0)):
            if await _gone_after(pid, number, deadline_s):
                break
        else:
            raise StoreError(f"process {pid} holds the data in {data_dir} and cannot be stopped")
    remove(socket)


async def _left_behind(data_dir: Path, socket: Path) -> int:
    info = await ask(socket, "INFO", "server")
    for line in info.splitlines():
        if line.startswith("process_id:"):
            return int(line.partition(":")[2])
    return _server_in(data_dir)


def _server_in(data_dir: Path) -> int:
    """Read the pid file, and make sure that the process is a server in this very directory."""
    try:
        pid = int((data_dir / "store.pid").read_text())
        inside = Path(f"/proc/{pid}/cwd").resolve(strict=True) == data_dir
        is_server = Path(f"/proc/{pid}/exe").resolve(strict=True).name.endswith("-server")
    except (OSError, ValueError):
        return 0
    return pid if inside and is_server else 0


async def _gone_after(pid: int, number: int, deadline_s: float) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while loop.time() < deadline:
        if not is_alive(pid):
            return True
        await asyncio.sleep(_POLL_S)
    return False


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
