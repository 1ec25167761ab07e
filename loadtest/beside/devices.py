"""The devices of one peer, in a process of their own (`loadtest.led_process`).

`python -m loadtest.beside.devices` is led by `device_process`.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import uvloop

from loadtest.fleet import open_each
from loadtest.led_process import LedProcess, led_process, obey
from loadtest.peer import Peer, decode_payload
from loadtest.peers import discover
from loadtest.recorder import Latencies

_INDEX_BITS: Final = 32


class Open(msgspec.Struct, tag_field="do", tag="open"):
    """Connect devices of a peer, `at_once` at a time."""

    peer: str
    host: str
    port: int
    names: list[str]
    source: str = ""
    at_once: int = 32


class Gather(msgspec.Struct, tag_field="do", tag="gather"):
    """Wait until `count` new messages came since the last `Gather`."""

    count: int
    timeout_s: float = 300.0


Command = Open | Gather


class Answer(msgspec.Struct, omit_defaults=True):
    """What came of a command."""

    error: str = ""
    received: int = 0
    """A message to many counts at each device; a repeat at one does not."""
    repeats: int = 0
    latencies_us: list[int] = []
    """Of the messages that tell when they were due."""


class Devices:
    """All devices of this process.

    Args:
        peers: by name.
    """

    def __init__(self, peers: dict[str, Peer]) -> None:
        self._peers = peers
        self._count = 0
        self._seen: set[int] = set()
        self._fresh = self._repeats = self._wanted = 0
        self._enough = asyncio.Event()
        self._latencies = Latencies()

    async def carry_out(self, command: Command) -> Answer:
        """Do what a command says."""
        match command:
            case Open():
                return await self._open(command)
            case Gather():
                return await self._gather(command)

    async def _open(self, command: Open) -> Answer:
        peer = self._peers[command.peer]

        def device(name: str, done: asyncio.Future[None]) -> asyncio.Protocol:
            index, self._count = self._count, self._count + 1
            return peer.device(name, functools.partial(self._received, index), done)

        target = (command.host, command.port)
        await open_each(command.names, target, command.source, command.at_once, device)
        return Answer()

    async def _gather(self, command: Gather) -> Answer:
        self._wanted = command.count
        self._enough.clear()
        if self._fresh < command.count:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(command.timeout_s):
                    await self._enough.wait()
        answer = Answer(
            received=self._fresh, repeats=self._repeats, latencies_us=self._latencies.take()
        )
        self._fresh = self._repeats = 0
        return answer

    def _received(self, device: int, payload: bytes) -> None:
        now_ns = time.monotonic_ns()
        number, due_ns = decode_payload(payload)
        key = number << _INDEX_BITS | device
        if key in self._seen:
            self._repeats += 1
            return
        self._seen.add(key)
        self._fresh += 1
        if due_ns:
            self._latencies.note(due_ns, now_ns)
        if self._fresh >= self._wanted:
            self._enough.set()


DeviceProcess = LedProcess[Answer]


@contextlib.asynccontextmanager
async def device_process() -> AsyncIterator[DeviceProcess]:
    """Start a process of devices, and end it."""
    async with led_process("loadtest.beside.devices", Answer) as process:
        yield process


async def main() -> None:
    """Read commands until standard input ends."""
    devices = Devices(discover())
    await obey(msgspec.json.Decoder(Command), devices.carry_out, lambda error: Answer(error=error))


if __name__ == "__main__":
    uvloop.run(main())
