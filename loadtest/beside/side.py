"""One of several servers that are measured in turns, and the work that each of them gets."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Final

from loadtest.beside.devices import Answer, DeviceProcess, Gather, Open, device_process
from loadtest.fleet import each_of
from loadtest.peer import Admitted, Peer, Sender, Server, encode_payload
from loadtest.processes import CpuMeter, memory_bytes

AT_ONCE: Final = 64
"""Calls under way at once where messages are sent singly."""
BATCH: Final = 100
"""Messages in a batch."""
BATCHES_AT_ONCE: Final = 4
SETTLE_S: Final = 1.5

Parts = dict[str, float]
"""By role of process."""


class Side:
    """A server with its devices and senders; `beside` starts one.

    Args:
        peer: what it is.
        server: that runs.
        devices: the process of its devices.
        source: the address that its devices connect from.
        settle_s: how long acks have after the last message, and what is stored once a second.
    """

    def __init__(
        self, peer: Peer, server: Server, devices: DeviceProcess, source: str, settle_s: float
    ) -> None:
        self.peer = peer
        self.server = server
        self._devices = devices
        self._source = source
        self._settle_s = settle_s
        self._admitted: list[Admitted] = []
        self._numbers = itertools.count()

    async def connect(self, count: int) -> Parts:
        """Admit and connect devices; gives the bytes of memory that each of them takes, by role."""
        before = self._memory()
        admitted = await self.server.admit(count)
        host, port = self.server.target
        names = [device.name for device in admitted]
        await self._devices.ask(Open(self.peer.name, host, port, names, self._source))
        self._admitted += admitted
        await asyncio.sleep(self._settle_s)
        after = self._memory()
        return {role: (value - before.get(role, 0)) / count for role, value in after.items()}

    async def fan_out(self, bursts: int, burst: int, payload_bytes: int) -> Parts:
        """Publish `bursts` times `burst` messages at once, each time when all have the one before.

        Gives the CPU µs per delivery of each role.

        Raises:
            ConnectionError: not every device got everything.
        """
        each = burst * len(self._admitted)
        async with self.server.sender(1) as sender:
            meter = CpuMeter(self.server.pids())
            for _ in range(bursts):
                payloads = [self._payload(payload_bytes) for _ in range(burst)]
                await self._through(each, sender.publish(payloads))
            return await self._spent(meter, bursts * each)

    async def lives(self, count: int, batch: int, payload_bytes: int) -> Parts:
        """Send messages to one device each, in a closed loop, `batch` in a call.

        Gives the CPU µs per message of each role.

        Raises:
            ConnectionError: one was refused, or did not arrive.
        """
        calls = count // batch
        at_once = AT_ONCE if batch == 1 else BATCHES_AT_ONCE
        targets = itertools.cycle(self._admitted)
        async with self.server.sender(at_once) as sender:

            async def one(_slot: int) -> None:
                chosen = itertools.islice(targets, batch)
                await sender.send([(d.address, self._payload(payload_bytes)) for d in chosen])

            meter = CpuMeter(self.server.pids())
            await self._through(calls * batch, each_of(calls, range(at_once), one))
            return await self._spent(meter, calls * batch)

    async def latencies_us(self, count: int, rate: float, payload_bytes: int) -> list[int]:
        """Send messages at their times, whether or not earlier ones were answered (open loop).

        Gives the times from when each was due to its arrival at the device.

        Raises:
            ConnectionError: one was refused, or did not arrive.
        """

        async def steadily(sender: Sender) -> None:
            targets = itertools.cycle(self._admitted)
            begun_ns = time.monotonic_ns()
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    due_ns = begun_ns + int(number * 1e9 / rate)
                    await asyncio.sleep((due_ns - time.monotonic_ns()) / 1e9)
                    message = (next(targets).address, self._payload(payload_bytes, due_ns))
                    group.create_task(_coroutine(sender.send([message])))

        async with self.server.sender(AT_ONCE) as sender:
            return (await self._through(count, steadily(sender))).latencies_us

    def _payload(self, size: int, due_ns: int = 0) -> bytes:
        return encode_payload(next(self._numbers), due_ns, size)

    async def _through(self, count: int, sending: Coroutine[object, object, None]) -> Answer:
        """Send, and wait until all that makes has arrived."""
        async with asyncio.TaskGroup() as group:
            arriving = group.create_task(self._devices.ask(Gather(count)))
            group.create_task(_coroutine(sending))
        answer = arriving.result()
        if answer.received != count:
            raise ConnectionError(f"{self.peer.name}: {answer.received} of {count} arrived")
        return answer

    async def _spent(self, meter: CpuMeter, count: int) -> Parts:
        await asyncio.sleep(self._settle_s)
        return {role: 1e6 * value / count for role, value in meter.spent_s().items()}

    def _memory(self) -> Parts:
        return {
            role: float(sum(map(memory_bytes, pids))) for role, pids in self.server.pids().items()
        }


@contextlib.asynccontextmanager
async def beside(
    peer: Peer, folder: Path, source: str, settle_s: float = SETTLE_S
) -> AsyncIterator[Side]:
    """Start a server and the process of its devices, which connect from `source`.

    Raises:
        ConnectionError: it did not come up.
    """
    own = folder / peer.name
    own.mkdir()
    async with peer.serve(own) as server, device_process() as devices:
        yield Side(peer, server, devices, source, settle_s)


async def _coroutine(sending: Coroutine[object, object, None]) -> None:
    await sending
