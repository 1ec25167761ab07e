"""The HTTP sink against a collector that fails in every way that one can."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from router.export.sink import Destination, File, SinkError
from router.export.sinks.http import HttpSink
from tests.support.collector import Answer, Collector, collecting
from tests.support.valkey import wall_ms

FILE = File("date=2026-11-25/a.ndjson.gz", b"x" * 300_000, "application/x-ndjson", "gzip")
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def put(destination: Destination, timeout_s: float = 10.0) -> None:
    async with HttpSink(destination, wall_ms, timeout_s) as sink:
        await sink.put(FILE)


async def refusal(destination: Destination, timeout_s: float = 10.0) -> SinkError:
    with pytest.raises(SinkError) as caught:
        await put(destination, timeout_s)
    return caught.value


@contextlib.asynccontextmanager
async def peer(behave: Peer) -> AsyncIterator[Destination]:
    """A peer that does with a connection what it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await behave(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield Destination(f"http://{host}:{port}/")


async def test_put_keeps_the_file_as_it_is_under_its_name() -> None:
    async with collecting() as collector:
        await put(
            Destination(f"{collector.url}/?sig=a%2Bb", "PUT", (("Authorization", "Bearer s"),))
        )
    (request,) = collector.requests
    assert (request.method, request.body) == ("PUT", FILE.data)
    assert request.path == "/bucket/date=2026-11-25/a.ndjson.gz?sig=a%2Bb"
    assert request.name == FILE.name
    assert request.headers["authorization"] == "Bearer s"
    assert request.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in request.headers
    assert request.headers["content-length"] == str(len(FILE.data))


async def test_post_says_how_the_lines_are_compressed() -> None:
    async with collecting() as collector:
        await put(Destination(collector.url, "POST"))
    (request,) = collector.requests
    assert (request.method, request.path, request.body) == ("POST", "/bucket", FILE.data)
    assert request.name == FILE.name
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["content-encoding"] == "gzip"


async def test_a_header_of_the_operator_replaces_ours_whatever_its_case() -> None:
    async with collecting() as collector:
        await put(Destination(collector.url, "PUT", (("content-type", "text/plain"),)))
    assert collector.requests[0].headers["content-type"] == "text/plain"
    assert collector.requests[0].repeated == set()


@pytest.mark.parametrize("status", [301, 400, 403, 404, 413, 500, 503])
async def test_any_other_answer_is_a_failure_that_names_it(status: int) -> None:
    async with collecting() as collector:
        collector.answer = lambda _: Answer(status, {"Location": "/elsewhere"})
        error = await refusal(Destination(collector.url))
    assert f"HTTP {status}" in str(error)
    assert error.retry_after_s == 0
    assert len(collector.requests) == 1


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("99999999", 3600.0), ("soon", 0.0)])
async def test_retry_after_is_heeded_up_to_an_hour(header: str, seconds: float) -> None:
    async with collecting() as collector:
        collector.answer = lambda _: Answer(429, {"Retry-After": header})
        error = await refusal(Destination(collector.url))
    assert error.retry_after_s == seconds


async def test_a_collector_that_is_slow_to_answer_runs_into_the_time_out() -> None:
    async with collecting() as collector:
        collector.answer = lambda _: Answer(after=asyncio.Event())
        error = await refusal(Destination(collector.url), timeout_s=0.1)
    assert str(error) == "no answer within 0.1 s"


async def test_a_connection_that_is_reset_before_the_file_was_read() -> None:
    async def behave(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with peer(behave) as destination:
        await refusal(destination)


async def test_a_connection_that_is_reset_after_the_file_was_read() -> None:
    read: list[int] = []

    async def behave(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        read.append(len(await reader.readexactly(len(FILE.data))))

    async with peer(behave) as destination:
        await refusal(destination)
    assert set(read) == {len(FILE.data)}  # aiohttp repeats a PUT once: the whole of it


async def test_an_answer_that_is_no_http_is_a_failure() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(FILE.data))
        writer.write(b"SSH-2.0-nonsense\r\n\r\n")
        await writer.drain()

    async with peer(behave) as destination:
        await refusal(destination)


async def test_an_answer_without_end_is_not_read() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(FILE.data))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()

    async with asyncio.timeout(20), peer(behave) as destination:
        await put(destination)


async def test_nobody_at_the_address_is_a_failure_that_quotes_no_url() -> None:
    async with collecting() as collector:
        pass
    error = await refusal(Destination(f"{collector.url}?sig=secret"))
    assert "cannot connect" in str(error)
    assert "secret" not in str(error)


async def test_the_same_file_can_be_given_again() -> None:
    collector = Collector()
    answers = iter([Answer(500), Answer(200)])
    collector.answer = lambda _: next(answers)
    async with collecting(collector), HttpSink(Destination(collector.url), wall_ms) as sink:
        with pytest.raises(SinkError):
            await sink.put(FILE)
        await sink.put(FILE)
    first, second = collector.requests
    assert (first.name, first.body) == (second.name, second.body)
