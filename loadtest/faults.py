"""Trouble made on purpose: processes killed, sockets cut."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from loadtest.http import address_of

_CHUNK_BYTES = 65_536


class Kill(msgspec.Struct, frozen=True):
    """One process killed."""

    role: str
    pid: int
    at_s: float
    """Seconds after the first look of this killer."""


class Killer:
    """Kills a server process now and then, as a crash would: SIGKILL.

    Args:
        pids: gives the pids of each role, as they are now.
        roles: what may be killed; one after the other, so that each gets its turn.
        chance: picks the process of a role.
    """

    def __init__(
        self,
        pids: Callable[[], Mapping[str, Sequence[int]]],
        roles: Sequence[str],
        chance: random.Random,
    ) -> None:
        self._pids = pids
        self._roles = roles
        self._chance = chance
        self._begun = time.monotonic()
        self.kills: list[Kill] = []

    def kill_one(self) -> None:
        """Kill one process of the role whose turn it is; none where it has none now."""
        role = self._roles[len(self.kills) % len(self._roles)]
        if pids := self._pids().get(role):
            pid = self._chance.choice(pids)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.kills.append(Kill(role, pid, time.monotonic() - self._begun))

    async def run(self, period_s: float) -> None:
        """Kill one every `period_s` seconds, until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            self.kill_one()


class CuttingProxy:
    """Relays TCP connections, and cuts some of them without a word.

    `cutting_proxy` makes one.

    Args:
        upstream: URL of the server behind it.
        chance: picks what is cut.
    """

    def __init__(self, upstream: str, chance: random.Random) -> None:
        self._upstream = address_of(upstream)
        self._chance = chance
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.cuts = 0

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def cut(self, share: float) -> None:
        """Cut each connection with a probability of `share`."""
        for writer in list(self._open.values()):
            if self._chance.random() < share:
                writer.transport.abort()
                self.cuts += 1

    async def run(self, period_s: float, share: float) -> None:
        """Cut some connections every `period_s` seconds, until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            self.cut(share)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, in both directions, until either end closes it."""
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - asyncio's server runs it as a task
            return
        self._open[task] = writer
        other: asyncio.StreamWriter | None = None
        try:
            from_server, other = await asyncio.open_connection(*self._upstream)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, other))
                group.create_task(_pump(from_server, writer))
        except (OSError, ExceptionGroup):
            pass  # a relay has no more to say about it than to close both ends
        finally:
            del self._open[task]
            for end in (writer, other):
                if end is not None:
                    end.transport.abort()

    async def stop(self) -> None:
        """Cut everything and wait for the end of it."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def cutting_proxy(
    upstream: str, chance: random.Random
) -> AsyncIterator[tuple[str, CuttingProxy]]:
    """Give the URL of a proxy in front of `upstream` (same scheme), and the proxy."""
    proxy = CuttingProxy(upstream, chance)
    server = await asyncio.start_server(proxy.relay, "127.0.0.1", 0)
    scheme = upstream.partition(":")[0]
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{scheme}://127.0.0.1:{port}", proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way.

    Raises:
        ConnectionError: the end came; it ends the other way too.
    """
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    raise ConnectionError("closed")
