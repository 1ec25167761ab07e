"""Thousands of lean devices in a process of their own, led over its standard streams.

`python -m loadtest.fleet` reads one JSON command a line and writes one JSON answer a line;
`FleetProcess` is the other end. A process of its own, so that the devices' CPU time is neither in
the server's figures nor in the way of the senders' clock.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Final, TypeVar

import msgspec
import uvloop

from loadtest.http import HttpConnection, address_of, encode_request, open_connection
from loadtest.lean_device import LeanDevice
from loadtest.recorder import Latencies

_LINE_BYTES: Final = 64 * 1024 * 1024
_TRIES: Final = 50
_BIND_ADDRESS_NO_PORT: Final = 24
"""IP_BIND_ADDRESS_NO_PORT of linux/in.h, which Python 3.11 does not name."""

Slot = TypeVar("Slot")


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


class Expect(msgspec.Struct, tag_field="do", tag="expect"):
    """Wait until `count` different messages came since the last `Expect` was answered."""

    count: int
    timeout_s: float = 120.0
    every: bool = False
    """Count each delivery, as a message to a topic comes to many devices."""


class Close(msgspec.Struct, tag_field="do", tag="close"):
    """Drop every socket."""


Command = Register | Connect | Expect | Close


class Answer(msgspec.Struct, omit_defaults=True):
    """What came of a command."""

    error: str = ""
    tokens: list[str] = []
    seconds: float = 0.0
    refused: int = 0
    """Handshakes that had to be tried again."""
    received: int = 0
    repeats: int = 0
    latencies_us: list[int] = []


class _Registered(msgspec.Struct):
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

    async def carry_out(self, command: Command) -> Answer:
        """Do what a command says."""
        match command:
            case Register():
                return await self._register(command)
            case Connect():
                return await self._connect(command)
            case Expect():
                return await self._expect(command)
            case Close():
                for device in self._devices:
                    device.close()
                self._devices.clear()
                return Answer()

    async def _register(self, command: Register) -> Answer:
        path = f"/v1/projects/{command.project}/devices"
        body = b'{"platform":"python"}'
        request = encode_request("POST", command.api, path, body, X_Client_Key=command.client_key)
        tokens: list[str] = []

        async def one(connection: HttpConnection) -> None:
            answer = await connection.request(request)
            if answer.status != 201:  # noqa: PLR2004 - Created
                raise ConnectionError(f"register: {answer.status} {answer.body[:300]!r}")
            made = msgspec.json.decode(answer.body, type=_Registered)
            tokens.append(made.token)
            self._credentials.append(made.credential)

        async with http_pool(command.api, command.at_once) as pool:
            await each_of(command.count, pool, one)
        return Answer(tokens=tokens)

    async def _connect(self, command: Connect) -> Answer:
        host, port = address_of(command.devices)
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        have = len(self._devices)
        waiting = self._credentials[have : have + command.count]
        refused = 0

        async def one(_slot: int) -> None:
            nonlocal refused
            credential = waiting.pop()
            last: ConnectionError | None = None
            for _attempt in range(_TRIES):
                done = loop.create_future()
                try:
                    opened = await _open_socket(command.source, (host, port))
                    _transport, device = await loop.create_connection(
                        lambda: LeanDevice(credential, host, self._on_message, done),  # noqa: B023 - used at once
                        sock=opened,
                    )
                    await done
                except ConnectionError as error:
                    refused += 1
                    last = error
                    await asyncio.sleep(0.2)
                    continue
                self._devices.append(device)
                return
            raise ConnectionError(f"no session after {_TRIES} tries: {last}")

        await each_of(len(waiting), range(command.at_once), one)
        return Answer(seconds=time.monotonic() - begun, refused=refused)

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


async def _open_socket(source: str, target: tuple[str, int]) -> socket.socket:
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


class FleetProcess:
    """Leads one fleet process; `fleet_process` starts one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, command: Command) -> Answer:
        """Send a command and wait for its answer.

        Raises:
            ConnectionError: the fleet could not do it, or died.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise ConnectionError("the fleet has no streams")
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise ConnectionError("the fleet died")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise ConnectionError(answer.error)
        return answer


@contextlib.asynccontextmanager
async def fleet_process() -> AsyncIterator[FleetProcess]:
    """Start a fleet process, and end it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.fleet",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    try:
        yield FleetProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main() -> None:
    """Read commands until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    fleet = Fleet()
    decoder = msgspec.json.Decoder(Command)
    while line := await reader.readline():
        try:
            answer = await fleet.carry_out(decoder.decode(line))
        except (OSError, ExceptionGroup) as error:
            causes = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
            answer = Answer(error="; ".join(map(str, causes[:3])))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
