"""A thin socket behaves as a transport of the event loop does."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from typing_extensions import override

from loadtest.run.thin_socket import ThinSockets


class Noted(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.data = b""
        self.lost: list[Exception | None] = []
        self.changed = asyncio.Event()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self.changed.set()

    def write(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(data)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()

    async def until_lost(self) -> None:
        while not self.lost:
            self.changed.clear()
            await self.changed.wait()


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Noted, socket.socket, ThinSockets]]:
    """Give a protocol on a thin socket, and the peer's socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    sockets, protocol = ThinSockets(), Noted()
    sockets.adopt(ours, protocol)
    async with asyncio.timeout(10):
        with theirs:
            yield protocol, theirs, sockets
    sockets.close()


async def read(peer: socket.socket, count: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        data += await loop.sock_recv(peer, 65_536)
    return data


async def test_what_the_peer_says_arrives_and_is_answered() -> None:
    async with connected() as (protocol, peer, _):
        peer.sendall(b"hello")
        await protocol.changed.wait()
        assert protocol.data == b"hello"
        protocol.write(b"world")
        assert await read(peer, 5) == b"world"


async def test_what_has_no_room_waits_and_keeps_its_order() -> None:
    async with connected() as (protocol, peer, _):
        sent = bytes(range(256)) * 8_000
        protocol.write(sent)
        protocol.write(b"last")
        assert await read(peer, len(sent) + 4) == sent + b"last"


async def test_the_end_of_the_peer_is_told_once() -> None:
    async with connected() as (protocol, peer, _):
        peer.close()
        await protocol.until_lost()
        protocol.close()
        protocol.write(b"too late")
        assert protocol.lost == [None]


async def test_closing_tells_the_peer_and_later_the_protocol() -> None:
    async with connected() as (protocol, peer, _):
        protocol.close()
        assert protocol.lost == []
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
        await protocol.until_lost()
        assert protocol.lost == [None]


async def test_sockets_that_come_after_the_end_are_closed() -> None:
    async with connected() as (_, _, sockets):
        sockets.close()
        one, other = socket.socketpair()
        with other:
            sockets.adopt(one, Noted())
            assert other.recv(1) == b""
