"""Thousands of devices with the SDK's session in a process of their own, some of them come and go.

`python -m loadtest.crowd` is led by `crowd_process` (`loadtest.led_process`).
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import uvloop

from loadtest.fleet import each_of, http_pool, open_socket
from loadtest.http import HttpConnection, address_of, encode_request
from loadtest.led_process import LedProcess, led_process, obey
from loadtest.sdk_device import SdkDevice

_AT_ONCE: Final = 16
_POLL_S: Final = 0.1
_CREATED: Final = 201


class Enrol(msgspec.Struct, tag_field="do", tag="enrol"):
    """Register `count` devices."""

    api: str
    project: str
    client_key: str
    count: int


class Begin(msgspec.Struct, tag_field="do", tag="begin"):
    """Connect all devices, and wait until they are; then the first `restless` come and go.

    Those are connected for `on_s` seconds and away for `off_s`, on average.
    """

    devices: str
    sources: list[str]
    """Addresses that the devices connect from, in turn."""
    restless: int
    on_s: float
    off_s: float
    seed: int
    timeout_s: float = 60.0


class Calm(msgspec.Struct, tag_field="do", tag="calm"):
    """Have all devices come back and stay."""


class Count(msgspec.Struct, tag_field="do", tag="count"):
    """Say how many messages the handlers got."""


class Report(msgspec.Struct, tag_field="do", tag="report"):
    """Say which messages each handler got."""


Command = Enrol | Begin | Calm | Count | Report


class Enrolled(msgspec.Struct):
    """A device as the API registered it."""

    device_id: str
    token: str
    credential: str


class Answer(msgspec.Struct, omit_defaults=True):
    """What came of a command."""

    error: str = ""
    enrolled: list[Enrolled] = []
    handled: int = 0
    connects: int = 0
    absences: int = 0
    """How often a device went away of its own accord."""
    sights: list[list[str]] = []
    """Of each device, in the order of `enrolled`: what its handler got, in order."""
    stopped: list[str] = []
    """Why sessions ended for good."""


CrowdProcess = LedProcess[Answer]


class Crowd:
    """The devices of this process.

    Args:
        tasks: owns what runs beside the commands.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._enrolled: list[Enrolled] = []
        self._devices: list[SdkDevice] = []
        self._restless: list[asyncio.Task[None]] = []
        self._absences = 0

    async def carry_out(self, command: Command) -> Answer:
        """Do what a command says."""
        match command:
            case Enrol():
                await self._enrol(command)
                return Answer(enrolled=self._enrolled)
            case Begin():
                await self._begin(command)
            case Calm():
                for task in self._restless:
                    task.cancel()
                for device in self._devices:
                    device.come_back()
            case Report():
                return self._answer(sights=[device.handled for device in self._devices])
            case Count():
                pass
        return self._answer()

    def _answer(self, sights: list[list[str]] | None = None) -> Answer:
        return Answer(
            handled=sum(len(device.handled) for device in self._devices),
            connects=sum(device.connects for device in self._devices),
            absences=self._absences,
            sights=sights or [],
            stopped=[device.stopped for device in self._devices if device.stopped],
        )

    async def _enrol(self, command: Enrol) -> None:
        path = f"/v1/projects/{command.project}/devices"
        key = command.client_key
        body = b'{"platform":"python"}'
        request = encode_request("POST", command.api, path, body, X_Client_Key=key)

        async def one(connection: HttpConnection) -> None:
            answer = await connection.request(request)
            if answer.status != _CREATED:
                raise ConnectionError(f"register: {answer.status} {answer.body[:300]!r}")
            self._enrolled.append(msgspec.json.decode(answer.body, type=Enrolled))

        async with http_pool(command.api, _AT_ONCE) as pool:
            await each_of(command.count, pool, one)

    async def _begin(self, command: Begin) -> None:
        host, port = address_of(command.devices)
        loop = asyncio.get_running_loop()
        chance = random.Random(command.seed)

        def make(number: int, enrolled: Enrolled) -> SdkDevice:
            source = command.sources[number % len(command.sources)]

            async def opener(protocol: asyncio.Protocol) -> None:
                opened = await open_socket(source, (host, port))
                await loop.create_connection(lambda: protocol, sock=opened)

            return SdkDevice(enrolled.credential, host, chance.uniform, opener, self._tasks)

        self._devices = [make(*one) for one in enumerate(self._enrolled)]
        async with asyncio.timeout(command.timeout_s):
            for device in self._devices:
                device.start()
                await asyncio.sleep(0.0005)  # so that the shard's rate of handshakes is kept
            while not all(device.connected for device in self._devices):  # noqa: ASYNC110 - they tell nobody
                await asyncio.sleep(_POLL_S)
        self._restless = [
            self._tasks.create_task(self._come_and_go(device, command, chance))
            for device in self._devices[: command.restless]
        ]

    async def _come_and_go(self, device: SdkDevice, command: Begin, chance: random.Random) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0, 2 * command.on_s))
            away_s = chance.uniform(0, 2 * command.off_s)
            device.go_away(away_s, abort=chance.choice((True, False)))
            self._absences += 1
            await asyncio.sleep(away_s)


@contextlib.asynccontextmanager
async def crowd_process() -> AsyncIterator[CrowdProcess]:
    """Start a crowd, and end it."""
    async with led_process("loadtest.crowd", Answer) as process:
        yield process


async def main() -> None:
    """Read commands until standard input ends."""
    async with asyncio.TaskGroup() as tasks:
        crowd = Crowd(tasks)
        decoder = msgspec.json.Decoder(Command)
        await obey(decoder, crowd.carry_out, lambda error: Answer(error=error))


if __name__ == "__main__":
    uvloop.run(main())
