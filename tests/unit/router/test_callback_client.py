"""The client of callbacks: what it lets an endpoint do to us."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from router.callbacks.client import Answer, Client
from router.callbacks.guard import GuardedResolver, RefusedAddressError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def endpoint(answer: bytes, *, stall: bool = False) -> AsyncIterator[str]:
    """Answer the first request of a connection with these very bytes."""
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if stall:
                await done.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        done.set()
        server.close()
        await server.wait_closed()


async def answered(url: str, timeout_s: float = 5.0, *, allow_private: bool = True) -> Answer:
    async with Client(timeout_s, allow_private=allow_private) as client:
        return await client.post(url, {"webhook-id": "msg_1"}, b"{}")


def resolved(*addresses: str) -> Callable[..., list[tuple[object, ...]]]:
    """Play the system's resolver, which the guard must not trust."""

    def look_up(_host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return look_up


async def test_of_the_addresses_of_a_name_only_public_ones_are_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses = ("10.0.0.1", "8.8.8.8", "::1", "::ffff:127.0.0.1", "2606:4700::1111")
    monkeypatch.setattr(socket, "getaddrinfo", resolved(*addresses))
    resolver = GuardedResolver()
    found = await resolver.resolve("hooks.example.com", 443, socket.AF_UNSPEC)
    assert [result["host"] for result in found] == ["8.8.8.8", "2606:4700::1111"]
    assert all(result["flags"] & socket.AI_NUMERICHOST for result in found)
    await resolver.close()


async def test_a_name_that_has_moved_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = GuardedResolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolved("8.8.8.8"))
    assert await resolver.resolve("hooks.example.com", 443)
    monkeypatch.setattr(socket, "getaddrinfo", resolved("169.254.169.254"))
    with pytest.raises(RefusedAddressError):
        await resolver.resolve("hooks.example.com", 443)
    await resolver.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.1", "2130706433"])
async def test_a_private_host_is_refused_before_anything_is_sent(host: str) -> None:
    async with endpoint(b"HTTP/1.1 204 No Content\r\n\r\n") as url:
        port = url.rpartition(":")[2]
        answer = await answered(f"http://{host}:{port}", allow_private=False)
    assert (answer.status, answer.refused) == (0, True)


async def test_a_plain_answer() -> None:
    async with endpoint(b"HTTP/1.1 429 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n") as url:
        assert await answered(url) == Answer(429, "7")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 " + b"a" * 10_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ],
    ids=["long header", "many headers", "long line", "nonsense", "nothing"],
)
async def test_what_is_no_decent_answer_is_a_failure(answer: bytes) -> None:
    async with endpoint(answer) as url:
        found = await answered(url)
    assert found.status == 0
    assert found.error
    assert not found.refused
    assert len(found.error) <= 200


async def test_a_flood_is_cut_and_its_status_counts() -> None:
    flood = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 300_000
    async with endpoint(flood, stall=True) as url:
        assert (await answered(url, 30.0)).status == 200


async def test_a_body_that_never_ends_keeps_its_status() -> None:
    async with endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", stall=True) as url:
        assert (await answered(url, 0.1)).status == 200


async def test_no_answer_is_told() -> None:
    async with endpoint(b"", stall=True) as url:
        assert (await answered(url, 0.1)).error == "no answer within 0.1 s"


async def test_nobody_there_is_told() -> None:
    async with endpoint(b"") as url:
        gone = url
    assert "ConnectorError" in (await answered(gone)).error
