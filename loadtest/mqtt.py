"""MQTT clients that cost next to nothing (MQTT 3.1.1): devices, and one that publishes.

They are made like `LeanDevice`: own framing, one write of acks for what came in one chunk.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final, cast

from typing_extensions import override

from loadtest.peer import Received

_CONNECT: Final = 0x10
_CONNACK: Final = 0x20
_PUBLISH: Final = 0x30
_PUBACK: Final = 0x40
_SUBSCRIBE: Final = 0x82
_SUBACK: Final = 0x90
_DISCONNECT: Final = 0xE0
_QOS_1: Final = 0x02
_GRANTED: Final = b"\x01"
"""A subscription with QoS 1, in a SUBACK."""
_KIND: Final = 0xF0
_KEEP_ALIVE_S: Final = 600
_NUMBERS: Final = 0xFFFF


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
    return packet(
        _CONNECT, b"\x00\x04MQTT\x04\x00" + _KEEP_ALIVE_S.to_bytes(2, "big") + _text(client)
    )


def subscribe_packet(topics: Sequence[str]) -> bytes:
    """Subscribe to topics with QoS 1."""
    return packet(_SUBSCRIBE, b"\x00\x01" + b"".join(_text(topic) + b"\x01" for topic in topics))


def publish_packet(topic: str, number: int, payload: bytes) -> bytes:
    """Publish with QoS 1."""
    return packet(_PUBLISH | _QOS_1, _text(topic) + number.to_bytes(2, "big") + payload)


class LeanClient(asyncio.Protocol):
    """One connection of one MQTT client, which subscribes with QoS 1.

    Args:
        client: its id.
        topics: what it subscribes to.
        received: told of each message.
        done: settled once: with None when the subscriptions stand, else with an error.
    """

    __slots__ = ("_buffer", "_client", "_done", "_received", "_topics", "_transport")

    def __init__(
        self, client: str, topics: Sequence[str], received: Received, done: asyncio.Future[None]
    ) -> None:
        self._client = client
        self._topics = topics
        self._received = received
        self._done = done
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

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
                start = 4 + int.from_bytes(body[:2], "big")
                acks += b"\x40\x02" + body[start - 2 : start]
                self._received(body[start:])
            else:
                self._on_answer(kind, body)
        if acks and self._transport is not None:
            self._transport.write(acks)

    def _on_answer(self, kind: int, body: bytes) -> None:
        if kind == _CONNACK and self._transport is not None and body[1] == 0:
            self._transport.write(subscribe_packet(self._topics))
        elif kind == _SUBACK and body[2:] == _GRANTED * len(self._topics):
            if not self._done.done():
                self._done.set_result(None)
        elif not self._done.done():
            self._done.set_exception(ConnectionError(f"refused: {kind:#x} {body!r}"))


class Publisher(asyncio.Protocol):
    """A connection that publishes, with any number of messages under way (`publisher`)."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.connected = self._loop.create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(connect_packet("publisher"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for waiter in (self.connected, *self._waiting.values()):
            if not waiter.done():
                waiter.set_exception(ConnectionError("the broker closed the connection"))

    @override
    def data_received(self, data: bytes) -> None:
        packets, self._buffer = split_packets(self._buffer + data)
        for first_byte, body in packets:
            if first_byte == _PUBACK:
                waiter = self._waiting.pop(int.from_bytes(body[:2], "big"), None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            elif first_byte == _CONNACK and body[1] == 0:
                self.connected.set_result(None)
            elif not self.connected.done():
                self.connected.set_exception(ConnectionError(f"refused: {body!r}"))

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish in one write, each to its topic, and wait until the broker has all.

        Raises:
            ConnectionError: the connection went away.
        """
        if self._transport is None:
            raise ConnectionError("not connected")
        packets: list[bytes] = []
        waiters: list[asyncio.Future[None]] = []
        for topic, payload in messages:
            self._number = self._number % _NUMBERS + 1
            packets.append(publish_packet(topic, self._number, payload))
            self._waiting[self._number] = waiter = self._loop.create_future()
            waiters.append(waiter)
        self._transport.write(b"".join(packets))
        for waiter in waiters:
            await waiter

    def close(self) -> None:
        """Take leave."""
        if self._transport is not None:
            self._transport.write(packet(_DISCONNECT, b""))
            self._transport.close()


@contextlib.asynccontextmanager
async def publisher(target: tuple[str, int]) -> AsyncIterator[Publisher]:
    """Connect a client that publishes.

    Raises:
        ConnectionError: it was refused.
    """
    _, opened = await asyncio.get_running_loop().create_connection(Publisher, *target)
    try:
        await opened.connected
        yield opened
    finally:
        opened.close()


def _text(text: str) -> bytes:
    """Write a string (MQTT 3.1.1, 1.5.3)."""
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded
