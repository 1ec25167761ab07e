"""A server that takes the connection and never answers."""

import asyncio

import pytest

from router.store.address import Address
from router.store.link import LinkError, open_link


async def test_silence_is_told_with_its_length() -> None:
    left = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LinkError, match=r"no answer within 0\.1 s"):
            await open_link(Address(host="127.0.0.1", port=port), 0.1)
        await left.wait()
