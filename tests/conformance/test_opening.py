"""RFC 6455 4: the opening handshake on the wire, and what a stranger on the port is told."""

import pytest

from gateway.shard.handshake import Refusal
from tests.conformance.door import Door, open_door
from tests.conformance.wire import ACCEPT, JSON, MSGPACK, close, opening_request
from tests.support.waiting import eventually


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
async def test_opens(door: Door, subprotocol: str) -> None:
    client = await door.client()
    client.send(opening_request(subprotocol))
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert ACCEPT in head
    assert subprotocol.encode() in head
    client.send(close(1000))
    assert [answer.code for answer in await client.to_end()] == [1000]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(opening_request(path="/"), 404, id="path"),
        pytest.param(opening_request(""), 400, id="no subprotocol"),
        pytest.param(opening_request(drop="Upgrade"), 426, id="no upgrade"),
        pytest.param(opening_request(Sec_WebSocket_Version="12"), 400, id="version"),
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", 400, id="TLS on a plain port"),
        pytest.param(b"\r\n\r\n" * 3, 400, id="empty lines"),
        pytest.param(b"x" * 10_000, 431, id="no end"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, id="health"),
    ],
)
async def test_answers_and_ends_the_stream(door: Door, request_bytes: bytes, status: int) -> None:
    client = await door.client()
    client.send(request_bytes)
    answer = await client.raw_to_end()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert not door.shard.opened_ones


async def test_a_refused_client_is_told_when_to_come_again(door: Door) -> None:
    door.shard.refusal = Refusal("draining", 4)
    client = await door.client()
    client.send(opening_request())
    answer = await client.raw_to_end()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 4\r\n" in answer


async def test_a_slow_handshake_times_out() -> None:
    async with open_door(connect_timeout_s=0.2) as door:
        slow, silent = await door.client(), await door.client()
        slow.send(opening_request()[:40])
        assert (await slow.raw_to_end()).startswith(b"HTTP/1.1 408 ")
        assert (await silent.raw_to_end()).startswith(b"HTTP/1.1 408 ")


async def test_no_connect_frame_in_time() -> None:
    async with open_door(connect_timeout_s=0.2) as door:
        client = await door.client()
        await client.open()
        (answer,) = await client.frames(1)
        assert answer.code == 4008
        client.send(close(4008))
        assert await client.to_end() == []


async def test_a_peer_that_never_answers_our_close_is_dropped() -> None:
    async with open_door(connect_timeout_s=0.2) as door:
        door.listener._environment.close_ms = 200
        client = await door.client()
        await client.open()
        (answer,) = await client.frames(1)
        assert answer.code == 4008
        await eventually(lambda: door.listener.sockets == 0)


async def test_a_half_open_peer_is_dropped_after_a_violation(door: Door) -> None:
    door.listener._environment.close_ms = 200
    client = await door.client()
    await client.open()
    client.send(b"\xff" * 100)
    assert (await client.frames(1))[0].code == 1002
    await eventually(lambda: door.listener.sockets == 0)
