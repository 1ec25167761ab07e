"""A device that costs next to nothing: raw socket, own framing, msgpack dialect.

Speaks the device protocol as a real client would (masked frames, an ack for each message, one ack
frame for what came in one chunk), with none of the SDK's state.
"""

import asyncio
import base64
import struct
from collections.abc import Callable
from typing import Final, cast

import msgpack
from typing_extensions import override

from sdk_client import wire

BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A
_MASKED: Final = 0x80
_SHORT: Final = 126
_LONG: Final = 127
_KEY: Final = bytes(4)  # masking with zeros changes nothing here; the server unmasks all the same

Received = Callable[[str, dict[str, object]], None]
"""Called with the device's credential and the frame of each message."""


def upgrade(host: str, credential: str) -> bytes:
    """Write the request of a WebSocket handshake; its key is made of the credential's beginning."""
    key = base64.b64encode(credential.encode()[:16].ljust(16, b"."))
    return (
        f"GET {wire.CONNECT_PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key.decode()}\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL_MSGPACK}\r\n\r\n"
    ).encode()


def encode_frame(first_byte: int, payload: bytes) -> bytes:
    """Write a masked frame of at most 65,535 bytes (RFC 6455, 5.2)."""
    if len(payload) < _SHORT:
        return bytes((first_byte, _MASKED | len(payload))) + _KEY + payload
    return bytes((first_byte, _MASKED | _SHORT)) + struct.pack(">H", len(payload)) + _KEY + payload


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Take the whole unmasked frames off `data`: [(first byte, payload)], and what is left."""
    frames: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while end - at >= 2:  # noqa: PLR2004 - the shortest header
        length = data[at + 1]
        start = at + 2
        if length == _SHORT:
            if end - at < 4:  # noqa: PLR2004 - header with 16-bit length
                break
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            start = at + 4
        elif length == _LONG:
            if end - at < 10:  # noqa: PLR2004 - header with 64-bit length
                break
            length = int.from_bytes(data[at + 2 : at + 10], "big")
            start = at + 10
        if end < start + length:
            break
        frames.append((data[at], data[start : start + length]))
        at = start + length
    return frames, data[at:]


class LeanDevice(asyncio.Protocol):
    """One connection of one device.

    Args:
        credential: the device's secret.
        host: the Host header.
        received: told of each message.
        done: settled once: with None at `welcome`, with an error when it does not come to that.
    """

    __slots__ = ("_buffer", "_credential", "_done", "_host", "_open", "_received", "_transport")

    def __init__(
        self, credential: str, host: str, received: Received, done: asyncio.Future[None]
    ) -> None:
        self._credential = credential
        self._host = host
        self._received = received
        self._done: asyncio.Future[None] | None = done
        self._buffer = b""
        self._open = False
        self._transport: asyncio.Transport | None = None

    @property
    def connected(self) -> bool:
        """Whether the session is up."""
        return self._transport is not None and self._done is None

    def close(self) -> None:
        """Drop the socket without a word."""
        if self._transport is not None:
            self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.write(upgrade(self._host, self._credential))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._settle(ConnectionError(f"closed before the welcome: {self._buffer[:200]!r}"))

    @override
    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._open:
            head, found, rest = data.partition(b"\r\n\r\n")
            self._buffer = data
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._settle(ConnectionError(f"refused: {head.splitlines()[0].decode()}"))
                return
            self._open = True
            data = rest
            frame = {"op": wire.Op.CONNECT.value, "credential": self._credential, "sdk": "lean"}
            self._write(BINARY, wire.encode(frame))
        frames, self._buffer = split_frames(data)
        acks: list[str] = []
        for first_byte, payload in frames:
            if first_byte == BINARY:
                self._on_frame(payload, acks)
            elif first_byte == PING:
                self._write(PONG, payload)
            elif first_byte == CLOSE:
                code = int.from_bytes(payload[:2], "big")
                self._settle(ConnectionError(f"close {code} {payload[2:].decode()}"))
                self.close()
        if acks:
            self._write(BINARY, wire.encode({"op": wire.Op.ACK.value, "ids": acks}))

    def _on_frame(self, payload: bytes, acks: list[str]) -> None:
        frame: dict[str, object] = msgpack.unpackb(payload)
        op = frame.get("op")
        if op == wire.Op.MESSAGE.value:
            acks.append(str(frame["id"]))
            self._received(self._credential, frame)
        elif op == wire.Op.WELCOME.value:
            self._settle(None)
        elif op == wire.Op.GOAWAY.value:
            self.close()

    def _write(self, first_byte: int, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(encode_frame(first_byte, payload))

    def _settle(self, error: ConnectionError | None) -> None:
        done, self._done = self._done, None
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
            self.close()
