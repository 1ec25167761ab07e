"""A device without the SDK: frames in JSON, as a test says them, over the `websockets` package."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

DEADLINE_S: Final = 30.0
_JSON: Final = Subprotocol("pushwire.v1.json")

Frame = dict[str, Any]


class RawDevice:
    """One connection of a device, which does nothing by itself."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def say(self, op: str, **fields: object) -> None:
        """Send a frame."""
        await self._socket.send(json.dumps({"op": op, **fields}))

    async def ack(self, *ids: str) -> None:
        """Ack messages, in one frame."""
        await self.say("ack", ids=ids)

    async def next(self) -> Frame:
        """Wait for the next frame."""
        async with asyncio.timeout(DEADLINE_S):
            found: Frame = json.loads(await self._socket.recv())
        return found

    async def frame(self, op: str) -> Frame:
        """Wait for the next frame of a kind; those before it are passed over."""
        while (found := await self.next())["op"] != op:
            pass
        return found

    async def messages(self, count: int = 1) -> list[str]:
        """Wait for so many messages, and give their ids."""
        return [str((await self.frame("message"))["id"]) for _ in range(count)]

    async def until_pong(self) -> list[Frame]:
        """Ping, and give what comes before the pong: all that the gateway had sent until then."""
        await self.say("ping")
        found: list[Frame] = []
        while (frame := await self.next())["op"] != "pong":
            found.append(frame)
        return found

    async def closed(self) -> int:
        """Wait until the gateway has closed the connection, and give the code."""
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self._socket.recv()
        assert self._socket.close_code is not None
        return self._socket.close_code

    def drop(self) -> None:
        """Lose the connection without a word."""
        self._socket.transport.abort()


@contextlib.asynccontextmanager
async def opened(devices_url: str, credential: str) -> AsyncIterator[RawDevice]:
    """Open a connection and say who connects; the answer is not awaited."""
    async with connect(f"{devices_url}/v1/connect", subprotocols=[_JSON]) as socket:
        device = RawDevice(socket)
        await device.say("connect", credential=credential, sdk="test")
        yield device


@contextlib.asynccontextmanager
async def connected(devices_url: str, credential: str) -> AsyncIterator[RawDevice]:
    """Connect a device for the length of a block."""
    async with opened(devices_url, credential) as device:
        assert (await device.next())["op"] == "welcome"
        yield device
