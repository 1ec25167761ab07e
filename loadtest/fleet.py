"""Thousands of lean devices in a process of their own, led over its standard streams.

`python -m loadtest.fleet` is led by `fleet_process` (`loadtest.led_process`).
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Final, TypeVar

import msgspec
import uvloop

from loadtest.http import HttpConnection, address_of, encode_request, open_connection
from loadtest.lean_device import LeanDevice
from loadtest.led_process import LedProcess, led_process, obey
from loadtest.recorder import Latencies

_TRIES: Final = 50
_BIND_ADDRESS_NO_PORT: Final = 24
"""IP_BIND_ADDRESS_NO_PORT of linux/in.h, which Python 3.11 does not name."""

Slot = TypeVar("Slot")
Opened = TypeVar("Opened", bound=asyncio.Protocol)


class Register(msgspec.Struct, tag_field="do", tag="register"):
    """Register `count` new devices over HTTP, `at_once` requests at a time."""

    api: str
    project: str
    client_key: str
    count: int
    at_once: int = 16


class Connect(msgspec.Struct, tag_field="do", tag="connect"):
    """Connect `count` registered devices that are not connected, `at_once` handshakes at a time."""

    devices: str
    count: int
    source: str = ""
    at_once: int = 32
    counting: bool = False
    """Whether messages are only counted, for `Gather`; `Expect` tells them apart."""


class Gather(msgspec.Struct, tag_field="do", tag="gather"):
    """Wait until `count` messages came in all, each copy counted, since the last `Gather`."""

    count: int
    timeout_s: float = 60.0


class Expect(msgspec.Struct, tag_field="do", tag="expect"):
    """Wait until `count` different messages came since the last `Expect` was answered."""

    count: int
    timeout_s: float = 120.0
    every: bool = False
    """Count each delivery, as a message to a topic comes to many devices."""


class Close(msgspec.Struct, tag_field="do", tag="close"):
    """Drop every socket."""


Command = Register | Connect | Expect | Gather | Close


class Answer(msgspec.Struct, omit_defaults=True):
    """What came of a command."""

    error: str = ""
    tokens: list[str] = []
    first_ns: int = 0
    """When the first of the gathered messages came, by the monotonic clock."""
    last_ns: int = 0
    seconds: float = 0.0
    refused: int = 0
    """Handshakes that had to be tried again."""
    received: int = 0
    repeats: int = 0
    latencies_us: list[int] = []


class Registered(msgspec.Struct):
    """What a device has from its registration."""

    token: str
    credential: str


class Fleet:
    """The devices of this process."""

    def __init__(self) -> None:
        self._credentials: list[str] = []
        self._devices: list[LeanDevice] = []
        self._seen: set[str] = set()
        self._repeats = 0
        self._latencies = Latencies()
        self._deliveries = 0
        self._every = False
        self._expected = 0
        self._enough = asyncio.Event()
        self._copies = 0
        self._wanted = 0
        self._first_ns = self._last_ns = 0

    async def carry_out(self, command: Command) -> Answer:
        """Do what a command says."""
        match command:
            case Register():
                return await self._register(command)
            case Connect():
                return await self._connect(command)
            case Expect():
                return await self._expect(command)
            case Gather():
                return await self._gather(command)
            case Close():
                for device in self._devices:
                    device.close()
                self._devices.clear()
                return Answer()

    async def _register(self, command: Register) -> Answer:
        made = await register(command)
        self._credentials += [device.credential for device in made]
        return Answer(tokens=[device.token for device in made])

    async def _connect(self, command: Connect) -> Answer:
        host, port = address_of(command.devices)
        have = len(self._devices)
        waiting = self._credentials[have : have + command.count]
        received = self._on_copy if command.counting else self._on_message
        begun = time.monotonic()

        def device(credential: str, done: asyncio.Future[None]) -> LeanDevice:
            return LeanDevice(credential, host, received, done)

        made, refused = await open_each(
            waiting, (host, port), command.source, command.at_once, device
        )
        self._devices += made
        return Answer(seconds=time.monotonic() - begun, refused=refused)

    async def _gather(self, command: Gather) -> Answer:
        self._wanted = command.count
        self._enough.clear()
        if self._copies < command.count:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(command.timeout_s):
                    await self._enough.wait()
        answer = Answer(received=self._copies, first_ns=self._first_ns, last_ns=self._last_ns)
        self._copies = 0
        return answer

    def _on_copy(self, _name: str, _frame: dict[str, object]) -> None:
        self._copies += 1
        if self._copies == 1:
            self._first_ns = time.monotonic_ns()
        if self._copies >= self._wanted:
            self._last_ns = time.monotonic_ns()
            self._enough.set()

    async def _expect(self, command: Expect) -> Answer:
        self._expected, self._every = command.count, command.every
        self._enough.clear()
        if self._arrived() < command.count:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(command.timeout_s):
                    await self._enough.wait()
        answer = Answer(
            received=self._arrived(), repeats=self._repeats, latencies_us=self._latencies.take()
        )
        self._seen.clear()
        self._repeats = self._deliveries = 0
        return answer

    def _arrived(self) -> int:
        return self._deliveries if self._every else len(self._seen)

    def _on_message(self, _credential: str, frame: dict[str, object]) -> None:
        now_ns = time.monotonic_ns()
        message = str(frame["id"])
        self._deliveries += 1
        if message in self._seen:
            self._repeats += 1
        else:
            self._seen.add(message)
            data = frame.get("data")
            if isinstance(data, dict) and (due := data.get("due")):
                self._latencies.note(int(due), now_ns)
        if self._arrived() >= self._expected:
            self._enough.set()


async def register(command: Register) -> list[Registered]:
    """Register devices.

    Raises:
        ConnectionError: one was refused (in an ExceptionGroup).
    """
    path = f"/v1/projects/{command.project}/devices"
    body = b'{"platform":"python"}'
    request = encode_request("POST", command.api, path, body, X_Client_Key=command.client_key)
    made: list[Registered] = []

    async def one(connection: HttpConnection) -> None:
        answer = await connection.request(request)
        if answer.status != 201:  # noqa: PLR2004 - Created
            raise ConnectionError(f"register: {answer.status} {answer.body[:300]!r}")
        made.append(msgspec.json.decode(answer.body, type=Registered))

    async with http_pool(command.api, command.at_once) as pool:
        await each_of(command.count, pool, one)
    return made


@contextlib.asynccontextmanager
async def http_pool(base_url: str, size: int) -> AsyncIterator[list[HttpConnection]]:
    """Open `size` keep-alive connections, and close them in the end."""
    pool = [await open_connection(base_url) for _ in range(size)]
    try:
        yield pool
    finally:
        for connection in pool:
            connection.close()


async def each_of(
    count: int, slots: Iterable[Slot], one: Callable[[Slot], Coroutine[object, object, None]]
) -> None:
    """Run `one` `count` times, in each slot one after another, all slots at once."""
    left = count

    async def work(slot: Slot) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await one(slot)

    async with asyncio.TaskGroup() as group:
        for slot in slots:
            group.create_task(work(slot))


async def open_each(
    names: Sequence[str],
    target: tuple[str, int],
    source: str,
    at_once: int,
    make: Callable[[str, asyncio.Future[None]], Opened],
) -> tuple[list[Opened], int]:
    """Connect a device for each name, `at_once` at a time, each as often as it takes.

    Args:
        names: of the devices.
        target: the host and the port.
        source: the address that they connect from; any where it is empty.
        at_once: how many are on their way at the same time.
        make: makes the protocol of one, which settles its future when it is served.

    Returns:
        The devices, and how many handshakes had to be tried again.

    Raises:
        ConnectionError: one was refused too often (in an ExceptionGroup).
    """
    loop = asyncio.get_running_loop()
    waiting = list(names)
    made: list[Opened] = []
    refused = 0

    async def one(_slot: int) -> None:
        nonlocal refused
        name = waiting.pop()
        last: ConnectionError | None = None
        for _attempt in range(_TRIES):
            done = loop.create_future()
            device = make(name, done)
            try:
                opened = await open_socket(source, target)
                await loop.create_connection(lambda: device, sock=opened)  # noqa: B023 - used at once
                await done
            except ConnectionError as error:
                refused += 1
                last = error
                await asyncio.sleep(0.2)
                continue
            made.append(device)
            return
        raise ConnectionError(f"no session after {_TRIES} tries: {last}")

    await each_of(len(waiting), range(at_once), one)
    return made, refused


async def open_socket(source: str, target: tuple[str, int]) -> socket.socket:
    """Connect from a source address (any where it is empty), over IPv4."""
    opened = socket.socket(socket.AF_INET)
    try:
        opened.setblocking(False)
        if source:
            # The port is chosen when the target is known: before, the kernel searches for one that
            # no other connection of the address has, and thousands of them make that slow.
            opened.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            opened.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(opened, target)
    except BaseException:
        opened.close()
        raise
    return opened


FleetProcess = LedProcess[Answer]


@contextlib.asynccontextmanager
async def fleet_process() -> AsyncIterator[FleetProcess]:
    """Start a fleet process, and end it."""
    async with led_process("loadtest.fleet", Answer) as process:
        yield process


async def main() -> None:
    """Read commands until standard input ends."""
    await obey(msgspec.json.Decoder(Command), Fleet().carry_out, lambda error: Answer(error=error))


if __name__ == "__main__":
    uvloop.run(main())
