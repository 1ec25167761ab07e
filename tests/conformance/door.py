"""A real listener with real sessions on a loopback socket, and a client that speaks raw bytes.

Only the store is not there: `Shard` attaches every device at once and keeps what sessions ask for.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import cast

import msgpack
import msgspec
from prometheus_client import CollectorRegistry

from gateway.process import Clock
from gateway.settings import Settings
from gateway.shard import dialects
from gateway.shard.connection import Connection
from gateway.shard.events import Action, Attach, SessionLimits, Tally
from gateway.shard.handshake import Refusal
from gateway.shard.listener import Listener
from router.model.ids import ShardId
from router.model.mailbox import Attached, AttachResult
from router.telemetry.metrics import Metrics
from tests.conformance.wire import (
    BINARY,
    JSON,
    TEXT,
    ServerFrame,
    frame,
    opening_request,
    read_frames,
)

CREDENTIAL = f"{'d' * 16}.{'s' * 32}"
_CONNECT = {"op": "connect", "credential": CREDENTIAL, "sdk": "raw"}
CONNECT = frame(TEXT, json.dumps(_CONNECT).encode())
"""The device's first frame, in JSON."""
CONNECT_PACKED = frame(BINARY, msgpack.packb(_CONNECT))


class Shard:
    """What stands behind the connections: answers `Attach`, records all else."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.refusal: Refusal | None = None
        self.attaches = True
        self.opened_ones: list[Connection] = []
        self.actions: list[Action] = []
        self.reasons: list[str] = []
        """Why sessions ended, in order."""

    def admit(self) -> Refusal | None:
        return self.refusal

    def opened(self, connection: Connection) -> None:
        self.opened_ones.append(connection)

    def perform(self, connection: Connection, action: Action) -> None:
        self.actions.append(action)
        if isinstance(action, Attach) and self.attaches:
            attached = Attached(AttachResult.ATTACHED, epoch=1)
            connection.carry_out(connection.session.on_attached(attached, self.clock.now_ms()))

    def closed(self, _connection: Connection, reason: str) -> None:
        self.reasons.append(reason)


class Client:
    """One socket, in raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._rest = b""

    def send(self, data: bytes, pieces: int = 0) -> None:
        """Write; in pieces of so many bytes, where given."""
        for start in range(0, len(data), pieces or max(len(data), 1)):
            self.writer.write(data[start : start + (pieces or len(data))])

    async def send_slowly(self, data: bytes, pieces: int) -> None:
        """Write in pieces that the server reads one by one, as far as the kernel allows."""
        for start in range(0, len(data), pieces):
            self.writer.write(data[start : start + pieces])
            await self.writer.drain()
            for _ in range(3):  # turns of the loop that both sides share
                await asyncio.sleep(0)

    async def open(self, subprotocol: str = JSON) -> None:
        """Do the handshake."""
        self.send(opening_request(subprotocol))
        response = await self.head()
        assert response.startswith(b"HTTP/1.1 101 "), response

    async def head(self) -> bytes:
        """Read one response's head."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def connect_device(self, subprotocol: str = JSON) -> None:
        """Open and send the connect frame; read the welcome."""
        await self.open(subprotocol)
        self.send(CONNECT if subprotocol == JSON else CONNECT_PACKED)
        (welcome,) = await self.frames(1)
        assert b"welcome" in welcome.payload

    async def frames(self, count: int) -> list[ServerFrame]:
        """Read so many frames, and no byte more."""
        frames: list[ServerFrame] = []
        async with asyncio.timeout(10):
            while len(frames) < count:
                data = await self.reader.read(65_536)
                assert data, f"the stream ended after {frames}"
                more, self._rest = read_frames(self._rest + data)
                frames += more
        assert len(frames) == count, frames
        return frames

    async def to_end(self) -> list[ServerFrame]:
        """Read to the end of the stream, which must be an orderly one, at a frame's end."""
        async with asyncio.timeout(10):
            data = await self.reader.read()
        frames, rest = read_frames(self._rest + data)
        assert not rest
        return frames

    async def raw_to_end(self) -> bytes:
        """Read to the end, however it comes."""
        data = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while more := await self.reader.read(65_536):
                    data += more
        return data

    def stop_reading(self) -> None:
        """Let what the server sends fill the kernel's buffers, then the server's."""
        cast(asyncio.ReadTransport, self.writer.transport).pause_reading()

    def close(self) -> None:
        """Drop the socket."""
        self.writer.close()


class Door:
    """The listener under test, and clients of it."""

    def __init__(self, listener: Listener, shard: Shard, metrics: Metrics, port: int) -> None:
        self.listener = listener
        self.shard = shard
        self.metrics = metrics
        self.port = port
        self._clients: list[Client] = []

    async def client(self) -> Client:
        """Connect a socket; it is closed with the door."""
        streams = await asyncio.open_connection("127.0.0.1", self.port)
        self._clients.append(Client(*streams))
        return self._clients[-1]

    async def device(self) -> Client:
        """Connect a socket whose device is welcome."""
        client = await self.client()
        await client.connect_device()
        return client

    async def close(self) -> None:
        """Close the clients, then the listener."""
        for client in self._clients:
            client.close()
        for client in self._clients:
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()
        await self.listener.close()


@contextlib.asynccontextmanager
async def open_door(clock: Clock | None = None, **changes: object) -> AsyncIterator[Door]:
    """Run a listener on a free port.

    Args:
        clock: another than the machine's.
        changes: settings other than the defaults.
    """
    clock = clock or Clock()
    settings = msgspec.structs.replace(Settings(), **{"device_port": 0, **changes})
    limits = SessionLimits(
        shard=ShardId("test"),
        tally=Tally(),
        connect_timeout_ms=round(settings.connect_timeout_s * 1000),
    )
    shard = Shard(clock)
    metrics = Metrics(CollectorRegistry())
    listener = Listener(settings, shard, dialects.discover(), limits, clock, metrics)
    door = Door(listener, shard, metrics, await listener.start())
    try:
        yield door
    finally:
        await door.close()
