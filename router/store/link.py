"""One connection to the store: bytes out, replies in, the handshake. It knows no retries.

It sits on hiredis alone. redis-py's connection costs a coroutine and a time-out for every reply;
a protocol that reads all replies of a chunk at once does not (docs/decisions/0002-store-link.md).
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

import hiredis
from typing_extensions import override

from router.store.address import Address

Argument = bytes | str | int | float
Reply = object
"""What the store answers in RESP2: bytes, int, None, a list of these, or a ReplyError."""

_MISSING: Final = object()


class LinkError(Exception):
    """The connection could not be made or its handshake was refused."""


def pack(args: tuple[Argument, ...]) -> bytes:
    """Write one command in RESP."""
    return cast("bytes", hiredis.pack_command(args))  # type: ignore[arg-type]


def unpack(packed: bytes) -> list[bytes]:
    """Read one command that `pack` wrote."""
    reader = hiredis.Reader()
    reader.feed(packed)
    return cast("list[bytes]", reader.gets())


def fields(reply: Reply) -> list[Reply]:
    """Take an array reply; nil is an empty one."""
    return cast("list[Reply]", reply) if reply is not None else []


class Link(asyncio.Protocol):
    """One open connection.

    Set `on_reply` before writing; it is called once for each command, in order. `lost` is done when
    the connection has ended, for whatever reason.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = hiredis.Reader(notEnoughData=_MISSING)
        self._transport: asyncio.Transport | None = None
        self._requests: list[asyncio.Future[Reply]] = []
        self.on_reply: Callable[[Reply], None] = self._answer_request
        self.lost: asyncio.Future[None] = loop.create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (asyncio.Protocol)."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Hand on every whole reply (asyncio.Protocol)."""
        reader = self._reader
        reader.feed(data)
        gets = cast("Callable[[], Reply]", reader.gets)
        try:
            while (reply := gets()) is not _MISSING:
                self.on_reply(reply)
        except hiredis.ProtocolError:
            self.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits (asyncio.Protocol)."""
        self._transport = None
        for request in self._requests:
            if not request.done():
                request.set_result(LinkError("The store closed the connection"))
        self._requests.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens on a connection that is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def request(self, *args: Argument) -> Reply:
        """Send one command and wait for its reply; for handshakes and readers, before `on_reply`.

        Raises:
            LinkError: the store answered with an error, or the connection ended.
        """
        return (await self.requests(args))[-1]

    async def requests(self, *commands: tuple[Argument, ...]) -> list[Reply]:
        """Send commands together and wait for all replies.

        Raises:
            LinkError: the store answered one with an error, or the connection ended.
        """
        if self._transport is None:
            raise LinkError("The store closed the connection")
        futures: list[asyncio.Future[Reply]] = [self._loop.create_future() for _ in commands]
        self._requests.extend(futures)
        self.write(b"".join(map(pack, commands)))
        await asyncio.wait(futures)
        replies = [future.result() for future in futures]
        for reply in replies:
            if isinstance(reply, (hiredis.ReplyError, LinkError)):
                raise LinkError(str(reply))
        return replies

    def _answer_request(self, reply: Reply) -> None:
        if self._requests:
            future = self._requests.pop(0)
            if not future.done():
                future.set_result(reply)


def _tls_context(address: Address) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    context = ssl.create_default_context(cafile=address.ca_file or None)
    if not address.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def open_link(address: Address, timeout_s: float) -> Link:
    """Connect and log in.

    Raises:
        LinkError: the store is not there, does not let us in, or is not ready (still loading).
    """
    loop = asyncio.get_running_loop()
    link: Link | None = None
    try:
        async with asyncio.timeout(timeout_s):
            if address.path:
                _, link = await loop.create_unix_connection(lambda: Link(loop), address.path)
            else:
                _, link = await loop.create_connection(
                    lambda: Link(loop), address.host, address.port, ssl=_tls_context(address)
                )
            if address.password:
                user = (address.username,) if address.username else ()
                await link.request("AUTH", *user, address.password)
            if address.database:
                await link.request("SELECT", address.database)
            await link.request("PING")
    except (OSError, TimeoutError) as error:
        if link is not None:
            link.abort()
        message = f"{type(error).__name__}: {str(error) or f'no answer within {timeout_s:g} s'}"
        raise LinkError(message) from error
    except BaseException:
        if link is not None:
            link.abort()
        raise
    return link
