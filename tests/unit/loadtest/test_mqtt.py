"""The MQTT clients of the load generator speak MQTT 3.1.1, as a broker reads it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from loadtest.mqtt import (
    LeanClient,
    connect_packet,
    packet,
    publish_packet,
    publisher,
    split_packets,
)
from loadtest.peer import Received
from tests.unit.loadtest.scripted import Script, scripted

LONG = b"x" * 200
SUBSCRIBE = b"\x82\x0d\x00\x01\x00\x01t\x01\x00\x04u/me\x01"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384])
def test_packets_are_read_as_they_were_written_however_they_are_cut(size: int) -> None:
    body = bytes(size)
    written = packet(0x32, body) + packet(0x40, b"\x00\x01")
    for cut in (0, 1, 2, len(written) // 2, len(written) - 1):
        first, rest = split_packets(written[:cut])
        second, left = split_packets(rest + written[cut:])
        assert first + second == [(0x32, body), (0x40, b"\x00\x01")]
        assert left == b""


def test_a_client_asks_for_a_session_that_persists() -> None:
    assert connect_packet("me") == b"\x10\x0e\x00\x04MQTT\x04\x00\x02\x58\x00\x02me"


def test_a_message_is_published_with_qos_1() -> None:
    assert publish_packet("t", 7, b"hi") == b"\x32\x07\x00\x01t\x00\x07hi"


async def test_clients_subscribe_and_ack_every_message() -> None:
    """The broker here sends two messages in one chunk to whoever subscribes."""
    acks: list[bytes] = []
    wanted: list[bytes] = []
    received: list[bytes] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(connect_packet("me")))
        writer.write(b"\x20\x02\x00\x00")
        wanted.append(await reader.readexactly(len(SUBSCRIBE)))
        messages = publish_packet("t", 1, LONG) + publish_packet("u/me", 2, b"short")
        writer.write(b"\x90\x04\x00\x01\x01\x01" + messages)
        acks.append(await reader.readexactly(8))

    async with connected(broker, received.append) as done:
        await done
    assert wanted == [SUBSCRIBE]
    assert acks == [b"\x40\x02\x00\x01\x40\x02\x00\x02"]
    assert received == [LONG, b"short"]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (b"\x20\x02\x00\x05", "refused: 0x20"),
        (b"\x20\x02\x00\x00\x90\x04\x00\x01\x01\x80", "refused: 0x90"),
        (b"", "closed the connection"),
    ],
)
async def test_a_broker_that_refuses_is_an_error(answers: bytes, reason: str) -> None:
    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answers)

    async with connected(broker, lambda _payload: None) as done:
        with pytest.raises(ConnectionError, match=reason):
            await done


async def test_what_is_published_is_there_when_all_of_it_is_acked() -> None:
    answered: list[int] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(connect_packet("publisher")))
        writer.write(b"\x20\x02\x00\x00")
        two = publish_packet("t", 1, b"a") + publish_packet("u", 2, b"b")
        assert await reader.readexactly(len(two)) == two
        for number in (2, 1):
            answered.append(number)
            writer.write(b"\x40\x02\x00" + bytes((number,)))
        await reader.read()

    async with scripted(broker) as target, publisher(target) as opened:
        await opened.publish([("t", b"a"), ("u", b"b")])
        assert answered == [2, 1]


@contextlib.asynccontextmanager
async def connected(broker: Script, received: Received) -> AsyncIterator[asyncio.Future[None]]:
    """Connect a client to a broker; gives the future that it settles."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    client = LeanClient("me", ("t", "u/me"), received, done)
    transport: asyncio.BaseTransport | None = None
    try:
        async with scripted(broker) as target:
            transport, _ = await loop.create_connection(lambda: client, *target)
            yield done
    finally:
        if transport is not None:
            transport.close()
