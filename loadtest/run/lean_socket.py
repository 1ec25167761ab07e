"""One connection of a simulated device: the device protocol in msgpack, and nothing that is not it.

It has no task, no timer and no queue; who owns it decides what is acked when, and what comes after
its end.
"""

import asyncio
from typing import Final, Protocol, cast

import msgpack
from typing_extensions import override

from loadtest.lean_device import BINARY, CLOSE, PING, PONG, encode_frame, split_frames, upgrade
from sdk_client import wire

_NORMAL: Final = (1000).to_bytes(2, "big")
HEARTBEAT_S: Final = 60
"""Seconds between signs of life, as the SDK has it."""


class Owner(Protocol):
    """Who is told what happens on a connection. All calls come from the event loop."""

    def on_welcome(self, socket: "LeanSocket", frame: dict[str, object]) -> None:
        """The session is up."""
        ...

    def on_messages(self, socket: "LeanSocket", frames: list[dict[str, object]]) -> None:
        """Messages came in one read."""
        ...

    def on_frame(self, socket: "LeanSocket", frame: dict[str, object]) -> None:
        """Another frame came."""
        ...

    def on_end(self, socket: "LeanSocket", reason: str, retry_after_s: float) -> None:
        """The connection is gone; the peer asks to wait so long before the next."""
        ...


class LeanSocket(asyncio.Protocol):
    """One connection.

    Args:
        credential: the device's secret.
        host: the Host header.
        owner: told of everything.
        heartbeat_s: what it says of its signs of life.
    """

    __slots__ = (
        "_buffer",
        "_credential",
        "_heartbeat_s",
        "_host",
        "_owner",
        "_reason",
        "_retry_after_s",
        "_switched",
        "_transport",
        "welcomed",
    )

    def __init__(
        self, credential: str, host: str, owner: Owner, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._credential = credential
        self._heartbeat_s = heartbeat_s
        self._host = host
        self._owner = owner
        self._buffer = b""
        self._switched = False
        self._reason = ""
        self._retry_after_s = 0.0
        self._transport: asyncio.Transport | None = None
        self.welcomed = False
        """Whether the session came up."""

    def ack(self, ids: list[str]) -> None:
        """Say that these messages are done."""
        self._write(BINARY, wire.encode({"op": wire.Op.ACK.value, "ids": ids}))

    def ping(self) -> None:
        """Give a sign of life."""
        self._write(PING, b"")

    def leave(self, retry_after_s: float) -> None:
        """Close as a device does that was told to go away."""
        self._reason, self._retry_after_s = "goaway", retry_after_s
        self._write(CLOSE, _NORMAL)
        if self._transport is not None:
            self._transport.close()

    def cut(self, reason: str) -> None:
        """Drop the socket without a word."""
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.write(upgrade(self._host, self._credential))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.on_end(self, self._reason or "cut by the server", self._retry_after_s)

    @override
    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._switched:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            if not self._take_answer(head):
                return
        frames, self._buffer = split_frames(data)
        messages: list[dict[str, object]] = []
        for first_byte, payload in frames:
            if first_byte == BINARY:
                frame: dict[str, object] = msgpack.unpackb(payload)
                if frame.get("op") == wire.Op.MESSAGE.value:
                    messages.append(frame)
                else:
                    self._take(frame)
            elif first_byte == PING:
                self._write(PONG, payload)
            elif first_byte == CLOSE:
                text = payload[2:].decode(errors="replace")
                self._reason = f"{int.from_bytes(payload[:2], 'big')} {text}".strip()
                self._close()
        if messages:
            self._owner.on_messages(self, messages)

    def _take_answer(self, head: bytes) -> bool:
        """Read the answer to the handshake; False where it is a refusal."""
        lines = head.decode("latin-1").split("\r\n")
        if lines[0].startswith("HTTP/1.1 101"):
            self._switched = True
            frame = {
                "op": wire.Op.CONNECT.value,
                "credential": self._credential,
                "sdk": "loadtest",
                "heartbeat": self._heartbeat_s,
            }
            self._write(BINARY, wire.encode(frame))
            return True
        self._reason = lines[0].removeprefix("HTTP/1.1 ")
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "retry-after" and value.strip().isdecimal():
                self._retry_after_s = float(value)
        self._close()
        return False

    def _take(self, frame: dict[str, object]) -> None:
        if frame.get("op") == wire.Op.WELCOME.value:
            self.welcomed = True
            self._owner.on_welcome(self, frame)
        else:
            self._owner.on_frame(self, frame)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _write(self, first_byte: int, payload: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_frame(first_byte, payload))
