"""A relay before the device port that can turn deaf: what devices say is lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class DeafProxy:
    """Relays TCP connections. Made by `deaf_proxy`."""

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.deaf = False
        """Whether what devices say is lost."""
        parts = urlsplit(upstream)
        self._upstream = parts.hostname, parts.port

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either end closes it."""
        from_gateway, to_gateway = await asyncio.open_connection(*self._upstream)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, to_gateway))
                group.create_task(_down(from_gateway, writer))
        except* OSError:
            pass  # either end may go at any time
        finally:
            for end in (to_gateway, writer):
                end.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            if not self.deaf:
                writer.write(chunk)
        raise ConnectionResetError


async def _down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
    raise ConnectionResetError


@contextlib.asynccontextmanager
async def deaf_proxy(upstream: str) -> AsyncIterator[DeafProxy]:
    """Run a relay before the `ws://` URL of a gateway. Its devices must be gone at the end."""
    proxy = DeafProxy(upstream)
    server = await asyncio.start_server(proxy.relay, "127.0.0.1", 0)
    proxy.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy
