"""What a device of somebody else's making is told to do, and what it saw."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

JSON: Final = "pushwire.v1.json"
MSGPACK: Final = "pushwire.v1.msgpack"
DEADLINE_S: Final = 30.0

Event = dict[str, Any]
"""`kind` is `open` (`subprotocol`), `frame` (`frame`, `binary`) or `close` (`code`, `reason`)."""


@dataclass(frozen=True)
class Order:
    """Where to connect, and as whom. Each device pings once and acks every message."""

    url: str
    subprotocol: str
    credential: str


def answers(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """What a device says to a frame."""
    match frame["op"]:
        case "welcome":
            return [{"op": "ping"}]
        case "message":
            return [{"op": "ack", "ids": [frame["id"]]}]
        case _:
            return []


class Sight:
    """The events that a device saw, in order; each is given once.

    Args:
        complaints: gives what the device's program wrote to stderr.
    """

    def __init__(self, complaints: Callable[[], str] = str) -> None:
        self._all: list[Event] = []
        self._unread: asyncio.Queue[Event] = asyncio.Queue()
        self._complaints = complaints

    def add(self, event: Event) -> None:
        self._all.append(event)
        self._unread.put_nowait(event)

    async def event(self, kind: str) -> Event:
        """Wait for the next event of a kind; those before it are passed over."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while (event := await self._unread.get())["kind"] != kind:
                    assert event["kind"] != "close", self._all
        except TimeoutError:
            message = f"no {kind} in time, but {self._all}\n{self._complaints()[-2000:]}"
            raise AssertionError(message) from None
        return event

    async def frame(self, op: str) -> dict[str, Any]:
        """Wait for the next frame of a kind."""
        while True:
            frame: dict[str, Any] = (await self.event("frame"))["frame"]
            if frame["op"] == op:
                return frame


ForeignDevice = Callable[[Order], AbstractAsyncContextManager[Sight]]
"""Runs a device for the length of a block."""
