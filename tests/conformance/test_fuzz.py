"""Hostile bytes at a live listener: no traceback, no growth, every socket closed in the end.

Each example is a burst of sockets; a log record or an error that reaches the loop fails the test,
and so does a session that the shard is not told the end of.
"""

import asyncio
import random
import tracemalloc
from collections.abc import Callable

import msgpack
import pytest

from gateway.shard.events import Nacked
from router.model.ids import DeviceId, new_message_id, partition_of
from tests.conformance.case import ping_of, ping_text
from tests.conformance.door import CONNECT, Door
from tests.conformance.wire import (
    BINARY,
    CONTINUATION,
    MASK,
    MSGPACK,
    PING,
    TEXT,
    close,
    frame,
    opening_request,
    read_frames,
)
from tests.support.waiting import eventually

SOCKETS = 60
HEAD_END = b"\r\n\r\n"


@pytest.fixture(autouse=True)
def failures(door: Door) -> list[dict[str, object]]:
    """Collect what reaches the loop's exception handler: it must stay empty."""
    found: list[dict[str, object]] = []
    loop = asyncio.get_event_loop()
    loop.set_exception_handler(lambda _loop, context: found.append(context))
    return found


def random_bytes(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(2000))


def random_frames(rng: random.Random) -> bytes:
    """Write frames whose every field is as likely wrong as right."""
    return b"".join(
        frame(
            rng.choice((0, 1, 1, 2, 8, 9, 10, rng.randrange(16))),
            rng.randbytes(rng.choice((0, 1, 125, 126, rng.randrange(3000)))),
            fin=rng.random() < 0.7,
            rsv=rng.choice((0, 0, 0, rng.randrange(8))),
            mask=rng.choice((MASK, MASK, MASK, None)),
            form=8 if rng.random() < 0.1 else None,
        )
        for _ in range(rng.randrange(1, 6))
    )


def mutated_stream(rng: random.Random) -> bytes:
    data = bytearray(
        frame(TEXT, ping_of(200))
        + frame(PING, b"p")
        + frame(TEXT, ping_of(90)[:50], fin=False)
        + frame(CONTINUATION, ping_of(90)[50:])
        + close(1000, b"bye")
    )
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def hostile_json(rng: random.Random) -> bytes:
    texts = (
        b"[" * 5000,
        b'{"op":' * 2000,
        b'{"op":"ack","ids":[' + b"1," * 2000 + b"1]}",
        b'{"op":"ack","ids":"x"}',
        b'{"op":"nack","id":"x","retry_after":1e999}',
        b'{"op":"nack","id":"x","retry_after":-1}',
        b'{"op":"event","id":"x","event":"opened","at":99999999999999999999999999}',
        b'{"op":"send","id":"x","data":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"op":"unknown"}',
        b'{"op":null}',
        b'{"op":"ping","op":"ack"}',
        b"null",
        b"1" * 5000,
        b'"\\ud800"',
        rng.randbytes(30).hex().encode(),
    )
    return CONNECT + b"".join(frame(TEXT, rng.choice(texts)) for _ in range(rng.randrange(1, 30)))


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "bytes": random_bytes,
    "frames": random_frames,
    "mutated": mutated_stream,
    "json": hostile_json,
}


async def attack(door: Door, data: bytes, rng: random.Random, *, opened: bool) -> bytes:
    """Send, in up to three pieces, then end the stream one way or another; give what came back."""
    client = await door.client()
    request = opening_request() if opened else b""
    cut = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    for piece in (request + data[: cut[0]], data[cut[0] : cut[1]], data[cut[1] :]):
        client.send(piece)
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    if rng.random() < 0.2:
        client.writer.transport.abort()
        return b""
    if client.writer.can_write_eof():
        client.writer.write_eof()
    answer = await client.raw_to_end()
    client.close()
    return answer


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MAKERS)
async def test_hostile_frames(
    door: Door, failures: list[dict[str, object]], name: str, seed: int
) -> None:
    rng = random.Random(f"{name} {seed}")
    for _ in range(SOCKETS):
        answer = await attack(door, MAKERS[name](rng), rng, opened=True)
        head, _, rest = answer.partition(HEAD_END)
        assert not head or head.startswith(b"HTTP/1.1 101 ")
        read_frames(rest)
        assert b"Traceback" not in answer
    await all_over(door)
    assert failures == []


@pytest.mark.parametrize("seed", range(3))
async def test_hostile_handshakes(door: Door, failures: list[dict[str, object]], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(SOCKETS):
        data = bytearray(opening_request())
        for _ in range(rng.randrange(0, 8)):
            place = rng.randrange(len(data))
            data[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
        answer = await attack(door, bytes(data), rng, opened=False)
        assert not answer or answer.startswith(b"HTTP/1.1 ")
        assert b"Traceback" not in answer
    await all_over(door)
    assert failures == []


async def test_a_reply_flood_that_nobody_reads_is_cut_off(
    door: Door, failures: list[dict[str, object]]
) -> None:
    client = await door.device()
    client.stop_reading()
    flood = frame(TEXT, ping_text()) * 1000 + frame(PING, b"p" * 125) * 1000
    tracemalloc.start()
    async with asyncio.timeout(30):
        while not door.shard.reasons:
            client.writer.write(flood)
            await asyncio.sleep(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert door.shard.reasons == ["slow_consumer"]
    assert peak < 8_000_000 + client.writer.transport.get_write_buffer_size()
    client.writer.transport.abort()
    await all_over(door)
    assert failures == []


async def test_a_pause_that_is_no_number_counts_as_the_shortest(
    door: Door, failures: list[dict[str, object]]
) -> None:
    client = await door.client()
    await client.connect_device(MSGPACK)
    message = new_message_id(partition_of(DeviceId("d" * 16)), 0, bytes(10))
    nack = {"op": "nack", "id": message, "retry_after": float("nan")}
    client.send(frame(BINARY, msgpack.packb(nack)) + close(1000))
    (answer,) = await client.to_end()
    assert answer.code == 1000
    assert [action.message for action in door.shard.actions if isinstance(action, Nacked)]
    assert failures == []


async def all_over(door: Door) -> None:
    await eventually(lambda: door.listener.sockets == 0)
    assert len(door.shard.reasons) == len(door.shard.opened_ones)
