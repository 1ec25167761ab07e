"""Bodies of requests: their encodings, and clients that do not keep their word."""

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.api.app import Service
from gateway.api.cors import Origins
from gateway.api.http_server import HttpServer, Reply
from gateway.api.request import Call
from gateway.api.routing import Access, Route, Routes
from router.model.errors import ErrorCode, PushError
from tests.contract.api_server import Answer, Api
from tests.support.waiting import eventually


async def encoded(api: Api, encoding: str, content: bytes) -> Answer:
    return await api.call("POST", "messages:send", content, key=api.key, Content_Encoding=encoding)


async def test_gzip_deflate_and_identity_are_undone(api: Api) -> None:
    device = await api.device()
    content = json.dumps({"message": {"token": device["token"]}}).encode()
    for encoding, body in (
        ("gzip", gzip.compress(content, mtime=0)),
        ("GZIP", gzip.compress(content, mtime=0)),
        ("deflate", zlib.compress(content)),
        ("identity", content),
    ):
        answer = await encoded(api, encoding, body)
        assert answer.status == 200, (encoding, answer.text)


@pytest.mark.parametrize("encoding", ["br", "zstd", "nonsense", "gzip, gzip"])
async def test_another_encoding_is_refused_by_its_name(api: Api, encoding: str) -> None:
    answer = await encoded(api, encoding, b"{}")
    assert answer.status == 400
    assert answer.fields == ["Content-Encoding"]


@pytest.mark.parametrize(
    "content",
    [
        b"plain",
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}", mtime=0) + b"more",
        gzip.compress(b"{}", mtime=0) * 2,
        zlib.compress(b"{}"),
    ],
)
async def test_what_is_not_one_whole_gzip_stream_is_refused(api: Api, content: bytes) -> None:
    answer = await encoded(api, "gzip", content)
    assert answer.status == 400
    assert "Content-Encoding" in answer.error["message"]


@contextlib.asynccontextmanager
async def listening(server: web.Server) -> AsyncIterator[tuple[str, int]]:
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()
    finally:
        listener.close()
        await server.shutdown(1.0)


async def test_what_no_handler_reads_is_not_decompressed() -> None:
    content = gzip.compress(b" " * 100_000, mtime=0)

    async def raw_body(request: web.BaseRequest) -> Reply:
        return Reply(await request.content.read())

    async with (
        listening(HttpServer(raw_body, 0, lambda: None)) as (host, port),
        aiohttp.ClientSession() as session,
        session.post(
            f"http://{host}:{port}/", data=content, headers={"Content-Encoding": "gzip"}
        ) as response,
    ):
        assert await response.read() == content


async def test_a_client_that_leaves_amid_its_body_is_no_defect() -> None:
    outcomes: list[ErrorCode] = []

    async def read(call: Call) -> Reply:
        try:
            return Reply(await call.body())
        except PushError as error:
            outcomes.append(error.code)
            raise

    routes = Routes([Route("POST", "/", read, "Read the body.", Access.OPEN)])
    service = Service(routes, Origins(""), lambda: 0, 1000)
    with capture_logs() as logs:
        async with listening(HttpServer(service.answer, 0, lambda: None)) as (host, port):
            _, writer = await asyncio.open_connection(host, port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            await eventually(lambda: outcomes)
    assert outcomes == [ErrorCode.INVALID_ARGUMENT]
    assert logs == []
