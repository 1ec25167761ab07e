"""Servers that talk to each other over TCP: replicas, Sentinels, nodes of a cluster."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import hiredis

from tests.support.valkey import server_binary

START_S = 20.0


def free_port() -> int:
    """Find a free port whose bus port (10,000 above) is free too, both below the ephemeral ones."""
    for _ in range(1000):
        port = 10_000 + int.from_bytes(os.urandom(2), "big") % 12_000
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port
    raise AssertionError("no free port")


class TcpServer:
    """One valkey-server on a port of its own; it keeps its data when it is started again."""

    def __init__(self, directory: Path, *options: str, sentinel: bool = False) -> None:
        directory.mkdir()
        self.directory = directory
        self.port = free_port()
        self._options = options
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start, and wait until it answers."""
        config = self.directory / "server.conf"
        if not config.exists():
            lines = [
                f"port {self.port}",
                "bind 127.0.0.1",
                f"dir {self.directory}",
                f"logfile {self.directory / 'log'}",
                *self._options,
            ]
            if not self._sentinel:
                lines += ["save ''", "appendonly yes", "repl-diskless-sync-delay 0"]
            config.write_text("\n".join(lines) + "\n")
        words = [server_binary(), str(config), *(["--sentinel"] if self._sentinel else [])]
        self._process = subprocess.Popen(words)
        deadline = time.monotonic() + START_S
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
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def ask(self, *words: str | bytes | int) -> object:
        """Send one command, and give its reply.

        Raises:
            hiredis.ReplyError: the server refuses it.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
            reader = hiredis.Reader(encoding="utf-8")
            while (reply := reader.gets()) is False:
                data = connection.recv(65_536)
                assert data, "the server closed the connection"
                reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, AssertionError, hiredis.ReplyError):
            return self.ask("PING") == "PONG"
        return False


def wait_until(description: str, check: object, timeout_s: float = START_S) -> None:
    """Wait until `check()` is true; errors of a server that is not there yet count as no.

    Raises:
        AssertionError: it did not become so.
    """
    assert callable(check)
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, hiredis.ReplyError):
            if check():
                return
        assert time.monotonic() < deadline, f"in vain: {description}"
        time.sleep(0.02)
