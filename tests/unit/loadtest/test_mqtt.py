"""The MQTT clients of the load generator speak MQTT 3.1.1, as a broker reads it."""

import asyncio

import pytest

from loadtest.fleet import Dial, Gather, fleet_process
from loadtest.mqtt import LeanClient, connect_packet, packet, publish_packet, split_packets

LONG = b"x" * 200


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

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(connect_packet("client-0")))
        writer.write(b"\x20\x02\x00\x00")
        wanted.append(await reader.readexactly(len(b"\x82\x06\x00\x01\x00\x01t\x01")))
        messages = publish_packet("t", 1, LONG) + publish_packet("t", 2, LONG)
        writer.write(b"\x90\x03\x00\x01\x01" + messages)
        acks.append(await reader.readexactly(8))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, fleet_process() as fleet:
        await fleet.ask(Dial(f"mqtt://127.0.0.1:{port}", "t", 3, source="127.0.0.5"))
        answer = await fleet.ask(Gather(6, timeout_s=10))
    assert answer.received == 6
    assert 0 < answer.first_ns <= answer.last_ns
    assert wanted == [b"\x82\x06\x00\x01\x00\x01t\x01"] * 3
    assert acks == [b"\x40\x02\x00\x01\x40\x02\x00\x02"] * 3


async def test_a_broker_that_refuses_is_an_error() -> None:
    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x20\x02\x00\x05")
        writer.close()
        await writer.wait_closed()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    done: asyncio.Future[None] = loop.create_future()
    client = LeanClient("client-0", "t", lambda _client, _frame: None, done)
    async with server:
        await loop.create_connection(lambda: client, "127.0.0.1", port)
        with pytest.raises(ConnectionError, match="refused: 0x20"):
            await done
        client.close()
