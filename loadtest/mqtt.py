"""An MQTT broker to compare with, and clients of it that cost next to nothing (MQTT 3.1.1).

The clients are made like `LeanDevice`: own framing, one write of acks for what came in one chunk.
The broker is Debian's mosquitto, started here.
"""

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, cast

import msgspec
from typing_extensions import override

from loadtest.lean_device import Received

_CONNECT: Final = 0x10
_CONNACK: Final = 0x20
_PUBLISH: Final = 0x30
_PUBACK: Final = 0x40
_SUBSCRIBE: Final = 0x82
_SUBACK: Final = 0x90
_DISCONNECT: Final = 0xE0
_QOS_1: Final = 0x02
_KIND: Final = 0xF0
_KEEP_ALIVE_S: Final = 600
_START_S: Final = 10.0
_FRAME: Final[dict[str, object]] = {}
"""What `received` is told of a message: that it came."""


def packet(first_byte: int, body: bytes) -> bytes:
    """Write a control packet (MQTT 3.1.1, 2.2)."""
    length = len(body)
    head = bytearray((first_byte,))
    while True:
        length, digit = length >> 7, length & 0x7F
        head.append(digit | 0x80 if length else digit)
        if not length:
            return bytes(head) + body


def split_packets(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Take the whole packets off `data`: [(first byte, body)], and what is left."""
    packets: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while end - at >= 2:  # noqa: PLR2004 - the shortest packet
        length = shift = 0
        start = at + 1
        while start < end:
            digit = data[start]
            start += 1
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:  # noqa: PLR2004 - the last digit
                break
        else:
            break
        if end < start + length:
            break
        packets.append((data[at], data[start : start + length]))
        at = start + length
    return packets, data[at:]


def connect_packet(client: str) -> bytes:
    """Ask for a session that outlives its connection."""
    name = client.encode()
    head = b"\x00\x04MQTT\x04\x00" + _KEEP_ALIVE_S.to_bytes(2, "big")
    return packet(_CONNECT, head + len(name).to_bytes(2, "big") + name)


def publish_packet(topic: str, number: int, payload: bytes) -> bytes:
    """Publish with QoS 1."""
    name = topic.encode()
    head = len(name).to_bytes(2, "big") + name + number.to_bytes(2, "big")
    return packet(_PUBLISH | _QOS_1, head + payload)


class LeanClient(asyncio.Protocol):
    """One connection of one MQTT client, which subscribes to one topic with QoS 1.

    Args:
        client: its id.
        topic: what it subscribes to.
        received: told of each message.
        done: settled once: with None when the subscription stands, else with an error.
    """

    __slots__ = ("_buffer", "_client", "_done", "_received", "_topic", "_transport")

    def __init__(
        self, client: str, topic: str, received: Received, done: asyncio.Future[None]
    ) -> None:
        self._client = client
        self._topic = topic
        self._received = received
        self._done = done
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        """Drop the socket without a word."""
        if self._transport is not None:
            self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.write(connect_packet(self._client))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._done.done():
            self._done.set_exception(ConnectionError("the broker closed the connection"))

    @override
    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        packets, self._buffer = split_packets(data)
        acks = b""
        for first_byte, body in packets:
            kind = first_byte & _KIND
            if kind == _PUBLISH:
                size = int.from_bytes(body[:2], "big")
                acks += b"\x40\x02" + body[2 + size : 4 + size]
                self._received(self._client, _FRAME)
            else:
                self._on_answer(kind, body)
        if acks and self._transport is not None:
            self._transport.write(acks)

    def _on_answer(self, kind: int, body: bytes) -> None:
        if kind == _CONNACK and self._transport is not None and body[1] == 0:
            name = self._topic.encode()
            wanted = b"\x00\x01" + len(name).to_bytes(2, "big") + name + b"\x01"
            self._transport.write(packet(_SUBSCRIBE, wanted))
        elif kind == _SUBACK and body[2] == 1:
            if not self._done.done():
                self._done.set_result(None)
        elif not self._done.done():
            self._done.set_exception(ConnectionError(f"refused: {kind:#x} {body!r}"))


class Broker(msgspec.Struct, frozen=True):
    """A broker that serves."""

    url: str
    host: str
    port: int
    pid: int
    version: str


class Publisher:
    """Publishes to a broker, one message after another; `publisher` connects one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    async def publish(self, topic: str, payload: bytes, count: int = 1) -> None:
        """Publish so often at once, and wait until the broker has all.

        Raises:
            ConnectionError: it refused.
        """
        numbers = [(self._number + one) % 0xFFFF + 1 for one in range(count)]
        self._number = numbers[-1]
        self._writer.writelines([publish_packet(topic, number, payload) for number in numbers])
        expected = b"".join(bytes((_PUBACK, 2)) + number.to_bytes(2, "big") for number in numbers)
        answer = await self._reader.readexactly(len(expected))
        if answer != expected:
            raise ConnectionError(f"publish: {answer!r}")


@contextlib.asynccontextmanager
async def publisher(broker: Broker) -> AsyncIterator[Publisher]:
    """Connect a client that publishes."""
    reader, writer = await asyncio.open_connection(broker.host, broker.port)
    try:
        writer.write(connect_packet("publisher"))
        answer = await reader.readexactly(4)
        if answer[0] != _CONNACK or answer[3] != 0:
            raise ConnectionError(f"connect: {answer!r}")
        yield Publisher(reader, writer)
        writer.write(packet(_DISCONNECT, b""))
    finally:
        writer.close()


def find_mosquitto() -> str:
    """Find the broker.

    Raises:
        FileNotFoundError: it is not installed.
    """
    # Debian has it in /usr/sbin, which is not on everybody's PATH.
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        raise FileNotFoundError("mosquitto is not installed: apt-get install mosquitto")
    return found


@contextlib.asynccontextmanager
async def mosquitto() -> AsyncIterator[Broker]:
    """Start mosquitto with persistent sessions on a free port, and stop it in the end.

    Raises:
        FileNotFoundError: it is not installed.
        ConnectionError: it did not come up.
    """
    binary = find_mosquitto()
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="pushwire-mosquitto-") as folder:
        # As root it would otherwise become a user that cannot write there.
        settings = (
            f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
            f"persistence_location {folder}/\nlog_type error\n"
        )
        process = await asyncio.create_subprocess_exec(
            binary, "-c", _write_settings(folder, settings), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _listening(port)
            version = await _version(binary)
            yield Broker(f"mqtt://127.0.0.1:{port}", "127.0.0.1", port, process.pid, version)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _write_settings(folder: str, settings: str) -> str:
    path = Path(folder, "mosquitto.conf")
    path.write_text(settings)
    return str(path)


async def _version(binary: str) -> str:
    process = await asyncio.create_subprocess_exec(
        binary, "-h", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    printed, _ = await process.communicate()
    return printed.decode().partition("\n")[0].removeprefix("mosquitto version ")


async def _listening(port: int) -> None:
    async with asyncio.timeout(_START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
