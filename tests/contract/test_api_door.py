"""What the API does with requests for which there is no room."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from aiohttp import web

from gateway.api.admission import MOST, Gate
from gateway.api.door import Admission
from gateway.api.http_server import HttpServer, Reply
from tests.support.waiting import eventually

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    head = [b"POST /x HTTP/1.1", b"Host: x", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, b"", body])


class Stage:
    """A server whose handler waits for `go_on`, and one connection to it."""

    def __init__(self) -> None:
        self.gate = Gate(0.1, few=0)
        self.refused = 0
        self.handled: list[bytes] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.port = 0

    def close_gate(self) -> None:
        self.gate.limit = 0.0

    def open_gate(self) -> None:
        self.gate.limit = float(MOST)

    def count(self, requests: int) -> None:
        self.refused += requests

    async def handle(self, request: web.BaseRequest) -> Reply:
        body = await request.read()
        self.handled.append(body)
        await self.go_on.wait()
        return Reply(body or b"ok")


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            body = await self._reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self._reader.read() == b""


@contextlib.asynccontextmanager
async def playing() -> AsyncIterator[tuple[Stage, Client]]:
    stage = Stage()
    admission = Admission(stage.gate, stage.count, lambda _gate: None)
    server = HttpServer(stage.handle, 0, lambda: None, admission)
    listener = await asyncio.get_running_loop().create_server(server.accept, "127.0.0.1", 0)
    stage.port = listener.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    try:
        yield stage, Client(reader, writer)
    finally:
        writer.transport.abort()
        listener.close()
        await server.shutdown(1.0)


async def test_a_refusal_says_when_to_come_again_and_keeps_the_connection() -> None:
    async with playing() as (stage, client):
        stage.close_gate()
        for _ in range(2):
            client.writer.write(post(b"{}"))
            status, headers, body = await client.answer()
            assert status == 503
            assert int(headers["retry-after"]) >= 1
            error = json.loads(body)["error"]
            assert (error["status"], error["code"]) == ("UNAVAILABLE", 503)
            assert error["details"][0]["errorCode"] == "UNAVAILABLE"
        stage.open_gate()
        client.writer.write(post(b"third"))
        assert (await client.answer())[::2] == (200, b"third")
        assert stage.handled == [b"third"]
        await eventually(lambda: stage.refused == 2)
        assert stage.gate.load == 0


async def test_whoever_asks_for_health_is_always_answered() -> None:
    async with playing() as (stage, client):
        stage.close_gate()
        client.writer.write(HEALTH)
        assert (await client.answer())[0] == 200


async def test_a_large_body_is_thrown_away_unread() -> None:
    async with playing() as (stage, client):
        stage.close_gate()
        client.writer.write(post(b"x" * 1_000_000))
        assert (await client.answer())[0] == 503
        stage.open_gate()
        client.writer.write(post(b"next"))
        assert (await client.answer())[::2] == (200, b"next")
        assert stage.handled == [b"next"]


async def test_a_request_that_waits_goes_in_when_another_leaves() -> None:
    async with playing() as (stage, client):
        stage.go_on.clear()
        stage.gate.limit = 1.0
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        other = Client(reader, writer)
        other.writer.write(post(b"first"))
        await eventually(lambda: stage.handled)
        client.writer.write(post(b"second"))
        stage.go_on.set()
        assert (await other.answer())[2] == b"first"
        assert (await client.answer())[::2] == (200, b"second")
        assert stage.gate.load == 0
        writer.transport.abort()


async def test_who_leaves_while_its_request_waits_is_forgotten() -> None:
    async with playing() as (stage, client):
        stage.close_gate()
        client.writer.write(post(b"gone"))
        await client.writer.drain()
        client.writer.transport.abort()
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        other = Client(reader, writer)
        other.writer.write(post(b"waits in vain"))
        assert (await other.answer())[0] == 503
        stage.open_gate()
        other.writer.write(post(b"here"))
        assert (await other.answer())[2] == b"here"
        assert stage.handled == [b"here"]
        assert stage.gate.load == 0
        writer.transport.abort()


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with playing() as (stage, client):
        stage.go_on.clear()
        client.writer.write(post(b"first"))
        await eventually(lambda: stage.handled)
        stage.close_gate()
        client.writer.write(post(b"second") + HEALTH)
        stage.go_on.set()
        assert (await client.answer())[::2] == (200, b"first")
        assert (await client.answer())[0] == 503
        assert (await client.answer())[0] == 200


async def test_a_chunked_request_is_refused_too() -> None:
    async with playing() as (stage, client):
        stage.close_gate()
        head = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.writer.write(head + b"2\r\n{}\r\n0\r\n\r\n")
        assert (await client.answer())[0] == 503
        assert stage.handled == []
        stage.open_gate()
        client.writer.write(post(b"next"))
        assert (await client.answer())[2] == b"next"


async def test_more_than_a_refused_body_ends_the_connection() -> None:
    async with playing() as (stage, client):
        stage.close_gate()
        client.writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        await client.writer.drain()
        await eventually(lambda: stage.gate.closed)
        client.writer.write(b"{")
        await client.writer.drain()
        client.writer.write(b"}" + post(b"smuggled"))
        assert (await client.answer())[0] == 503
        assert stage.handled == []


async def test_what_is_under_way_is_let_out_when_its_client_leaves() -> None:
    async with playing() as (stage, client):
        stage.go_on.clear()
        client.writer.write(post(b"first"))
        await eventually(lambda: stage.handled)
        assert stage.gate.load == 1
        client.writer.transport.abort()
        stage.go_on.set()
        await eventually(lambda: stage.gate.load == 0)
