"""Devices that connect at a rate, come what may: `python -m loadtest.overload.storm`.

Each attempt is one of its own: TCP, handshake, attach, welcome; then the socket is closed. What is
refused is not tried again, and its `Retry-After` or `reconnect_after` is only counted.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import uvloop

from loadtest.fleet import each_of, http_pool, open_socket
from loadtest.http import HttpConnection, address_of, encode_request
from loadtest.led_process import LedProcess, led_process, obey
from loadtest.run.lean_socket import LeanSocket
from sdk_client import wire

_TICK_S: Final = 0.002
_CREATED: Final = 201
_REGISTERING: Final = 16


class Enrol(msgspec.Struct, tag_field="do", tag="enrol"):
    """Register `count` devices."""

    api: str
    project: str
    client_key: str
    count: int


class Storm(msgspec.Struct, tag_field="do", tag="storm"):
    """Begin `rate` connections a second for so many seconds."""

    devices: str
    rate: float
    seconds: float
    source: str
    bound_s: float
    """A welcome counts that comes within so many seconds of when the attempt was due."""
    patience_s: float = 10.0
    """An attempt without a welcome is given up."""


class Stormed(msgspec.Struct, omit_defaults=True):
    """What came of it."""

    error: str = ""
    begun: int = 0
    unbegun: int = 0
    """Attempts that were due while all devices were trying."""
    welcomed: int = 0
    """In time."""
    late: int = 0
    refused: dict[str, int] = {}
    hinted: int = 0
    """Refusals that said when to come again."""


class _Device:
    """One attempt of one device after another; `LeanSocket` tells it what happens."""

    def __init__(self, fleet: "Devices", credential: str) -> None:
        self.credential = credential
        self.socket: LeanSocket | None = None
        self.due_s = 0.0
        self._fleet = fleet

    def on_welcome(self, socket: LeanSocket, _frame: dict[str, object]) -> None:
        self._fleet.welcomed(self)
        socket.cut("welcome")

    def on_messages(self, socket: LeanSocket, frames: list[dict[str, object]]) -> None:
        pass

    def on_frame(self, socket: LeanSocket, frame: dict[str, object]) -> None:
        if frame.get("op") == wire.Op.GOAWAY.value:
            wait = frame.get("reconnect_after")
            socket.leave(float(wait) if isinstance(wait, int | float) else 0.0)

    def on_end(self, socket: LeanSocket, reason: str, retry_after_s: float) -> None:
        if self.socket is socket:
            self._fleet.ended(self, reason, retry_after_s)


class Devices:
    """The devices of this process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: collections.deque[_Device] = collections.deque()
        self._trying: dict[_Device, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._storm = Storm("", 0, 0, "", 0)
        self._result = Stormed()
        self._over = False

    async def carry_out(self, command: Enrol | Storm) -> Stormed:
        """Do what a command says."""
        if isinstance(command, Enrol):
            return await self._enrol(command)
        self._storm, self._result, self._over = command, Stormed(), False
        return await self._blow(command)

    def welcomed(self, device: _Device) -> None:
        """Take it that an attempt succeeded."""
        took_s = self._loop.time() - device.due_s
        if took_s <= self._storm.bound_s:
            self._result.welcomed += 1
        else:
            self._result.late += 1

    def ended(self, device: _Device, reason: str, retry_after_s: float) -> None:
        """Take it that an attempt is over."""
        device.socket = None
        if self._trying.pop(device, device) is None:
            self._idle.append(device)
        if reason != "welcome" and not self._over:
            self._result.refused[reason] = self._result.refused.get(reason, 0) + 1
            self._result.hinted += retry_after_s > 0

    async def _enrol(self, command: Enrol) -> Stormed:
        path = f"/v1/projects/{command.project}/devices"
        body = b'{"platform":"python"}'
        request = encode_request("POST", command.api, path, body, X_Client_Key=command.client_key)

        async def one(connection: HttpConnection) -> None:
            answer = await connection.request(request)
            if answer.status != _CREATED:
                raise ConnectionError(f"register: {answer.status} {answer.body[:300]!r}")
            credential = msgspec.json.decode(answer.body)["credential"]
            self._idle.append(_Device(self, credential))

        async with http_pool(command.api, _REGISTERING) as pool:
            await each_of(command.count, pool, one)
        return Stormed()

    async def _blow(self, storm: Storm) -> Stormed:
        begun = self._loop.time()
        done = 0
        while (now := self._loop.time()) < begun + storm.seconds:
            due = int((now - begun) * storm.rate) + 1
            for number in range(done, due):
                self._begin(begun + number / storm.rate)
            done = due
            self._give_up(now - storm.patience_s)
            await asyncio.sleep(_TICK_S)
        end = self._loop.time() + storm.bound_s
        while self._trying and self._loop.time() < end:  # noqa: ASYNC110 - looks at a clock
            await asyncio.sleep(_TICK_S)
        self._over = True
        if self._trying:
            self._result.refused["none"] = len(self._trying)
        self._give_up(float("inf"))
        for task in self._tasks:
            task.cancel()
        return self._result

    def _begin(self, due_s: float) -> None:
        if not self._idle:
            self._result.unbegun += 1
            return
        device = self._idle.popleft()
        device.due_s = due_s
        self._trying[device] = None
        self._result.begun += 1
        task = self._loop.create_task(self._dial(device))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, device: _Device) -> None:
        address = address_of(self._storm.devices)
        made = device.socket = LeanSocket(device.credential, address[0], device)
        try:
            opened = await open_socket(self._storm.source, address)
            await self._loop.create_connection(lambda: made, sock=opened)
        except OSError as error:
            device.on_end(made, error.strerror or "no connection", 0.0)

    def _give_up(self, before_s: float) -> None:
        for device in list(self._trying):
            if device.due_s > before_s:
                return
            if device.socket is not None:
                device.socket.cut("no welcome in time")


StormProcess = LedProcess[Stormed]


@contextlib.asynccontextmanager
async def storm_process() -> AsyncIterator[StormProcess]:
    """Start one, and end it."""
    async with led_process("loadtest.overload.storm", Stormed) as process:
        yield process


async def main() -> None:
    """Read commands until standard input ends."""
    decoder = msgspec.json.Decoder(Enrol | Storm)
    await obey(decoder, Devices().carry_out, lambda error: Stormed(error=error))


if __name__ == "__main__":
    uvloop.run(main())
