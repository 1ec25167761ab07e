"""The lean HTTP client against a server that answers by script."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from loadtest.http import address_of, encode_request, open_connection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@contextlib.asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[str]:
    """Answer the requests of a connection with `answers`, then close it."""

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                for at in range(len(answer)):  # byte by byte: the worst that TCP does
                    writer.write(answer[at : at + 1])
                    await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(5):
            await ended.wait()


async def test_answers_on_one_connection() -> None:
    created = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nX: y\r\n\r\n"
    async with server(OK, created) as url:
        connection = await open_connection(url)
        request = encode_request("GET", url, "/", b"")
        assert await connection.request(request) == (200, b"hi")
        assert await connection.request(request) == (201, b"")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", OK[:-1], b"HTTP/1.1 204 None\r\n\r\n"])
async def test_half_an_answer_is_an_unknown_outcome(answer: bytes) -> None:
    async with server(answer) as url:
        connection = await open_connection(url)
        with pytest.raises(ConnectionError):
            await connection.request(encode_request("GET", url, "/", b""))
        assert not connection.usable


async def test_no_answer_in_time_gives_the_connection_up() -> None:
    async with server(b"", OK) as url:
        connection = await open_connection(url)
        with pytest.raises(TimeoutError):
            await connection.request(encode_request("GET", url, "/", b""), timeout_s=0.05)
        assert not connection.usable


async def test_a_server_that_says_close_is_not_asked_again() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with server(closing) as url:
        connection = await open_connection(url)
        assert (await connection.request(encode_request("GET", url, "/", b""))).status == 200
        assert not connection.usable


def test_a_request_carries_its_headers_and_length() -> None:
    request = encode_request("POST", "http://h:1", "/p", b"abc", X_Client_Key="k")
    assert request.startswith(b"POST /p HTTP/1.1\r\nHost: h:1\r\nX-Client-Key: k\r\n")
    assert request.endswith(b"Content-Length: 3\r\n\r\nabc")


def test_an_address_needs_host_and_port() -> None:
    assert address_of("ws://localhost:81") == ("localhost", 81)
    with pytest.raises(ValueError, match="host and a port"):
        address_of("http://localhost")
