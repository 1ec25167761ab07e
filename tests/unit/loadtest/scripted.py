"""Plays one connection of a server by a script."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[str, int]]:
    """Serve until the script of one connection has ended; gives host and port."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except Exception as error:  # noqa: BLE001 - it is the test's
            ended.set_exception(error)
        else:
            ended.set_result(None)
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield host, port
        async with asyncio.timeout(10):
            await ended
