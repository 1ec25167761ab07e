"""The NATS clients of the load generator speak the text protocol, as a server reads it."""

import asyncio

import pytest

from loadtest import nats
from tests.unit.loadtest.scripted import scripted

HELLO = b'CONNECT {"verbose":false,"pedantic":false,"headers":false}\r\n'
INFO = b'INFO {"server_id":"x"}\r\n'


def test_messages_are_read_however_they_are_cut() -> None:
    data = INFO + b"MSG to.a 1 $JS.ACK.x 5\r\nhello\r\nPING\r\nMSG in.1 1 4\r\n\r\n\r\n\r\n"
    whole = [
        INFO[:-2],
        nats.Message(b"to.a", b"$JS.ACK.x", b"hello"),
        b"PING",
        nats.Message(b"in.1", b"", b"\r\n\r\n"),
    ]
    for cut in range(len(data)):
        first, rest = nats.split_messages(data[:cut])
        second, left = nats.split_messages(rest + data[cut:])
        assert first + second == whole
        assert left == b""


def test_a_message_is_published_with_and_without_a_wish_for_an_answer() -> None:
    assert nats.publish_line(b"a", b"hi", b"inbox.1") == b"PUB a inbox.1 2\r\nhi\r\n"
    assert nats.publish_line(b"a", b"") == b"PUB a 0\r\n\r\n"


async def test_a_subscriber_acks_each_message_and_answers_pings() -> None:
    answers: list[bytes] = []
    received: list[bytes] = []

    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        wanted = HELLO + b"SUB to.me 1\r\nPING\r\n"
        assert await reader.readexactly(len(wanted)) == wanted
        writer.write(b"PONG\r\nMSG to.me 1 ack.1 2\r\nhi\r\nPING\r\nMSG to.me 1 ack.2 2\r\nho\r\n")
        answers.append(await reader.readexactly(len(b"PUB ack.1 0\r\n\r\n") * 2 + 6))

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    subscriber = nats.LeanSubscriber("to.me", received.append, done)
    async with scripted(part) as target:
        transport, _ = await loop.create_connection(lambda: subscriber, *target)
        await done
    transport.close()
    assert answers == [b"PUB ack.1 0\r\n\r\nPONG\r\nPUB ack.2 0\r\n\r\n"]
    assert received == [b"hi", b"ho"]


async def test_what_jetstream_refuses_is_an_error() -> None:
    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        await reader.readuntil(b"PUB a inbox.0 2\r\nhi\r\n")
        body = b'{"error":{"code":503,"description":"no room"}}'
        writer.write(b"MSG inbox.0 1 %d\r\n%s\r\n" % (len(body), body))
        await reader.readuntil(b"PUB a inbox.1 2\r\nhi\r\n")

    async with scripted(part) as target, nats.client(target) as client:
        with pytest.raises(ConnectionError, match="503 no room"):
            await client.publish([("a", b"hi")])
        with pytest.raises(ConnectionError, match="closed the connection"):
            await client.publish([("a", b"hi")])
