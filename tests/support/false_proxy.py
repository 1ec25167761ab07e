"""A proxy of the device port that breaks promises: it takes messages away, or gives them twice.

It takes the frames of the gateway apart, so it knows which message it is that it tampers with. One
that it takes away it acks itself: the gateway then has every reason to think it delivered.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgpack

from loadtest.http import address_of
from loadtest.lean_device import BINARY, encode_frame, split_frames
from sdk_client import wire

Tamper = Callable[[dict[str, object]], list[dict[str, object]]]
"""Gives what a device gets in place of a message frame."""


def without(number: str) -> Tamper:
    """Take the message with this number of each stream away."""
    return lambda frame: [] if _number(frame) == number else [frame]


def doubled(number: str) -> Tamper:
    """Give the message with this number of each stream again, under another id."""
    return lambda frame: (
        [frame, {**frame, "id": f"{frame['id']}-again"}] if _number(frame) == number else [frame]
    )


def _number(frame: dict[str, object]) -> object:
    data = frame["data"]
    assert isinstance(data, dict)
    return data["n"]


@contextlib.asynccontextmanager
async def false_proxy(upstream: str, tamper: Tamper) -> AsyncIterator[str]:
    """Give the URL of a proxy in front of a device port."""
    tasks: dict[asyncio.Task[None], None] = {}

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks[task] = None
        from_gateway, to_gateway = await asyncio.open_connection(*address_of(upstream))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, to_gateway))
                group.create_task(_tamper(from_gateway, writer, to_gateway, tamper))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, to_gateway):
                end.transport.abort()
            del tasks[task]

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
    raise ConnectionError("closed")


async def _tamper(
    reader: asyncio.StreamReader,
    to_device: asyncio.StreamWriter,
    to_gateway: asyncio.StreamWriter,
    tamper: Tamper,
) -> None:
    to_device.write(await reader.readuntil(b"\r\n\r\n"))
    buffer = b""
    while chunk := await reader.read(65_536):
        frames, buffer = split_frames(buffer + chunk)
        for first_byte, payload in frames:
            if first_byte != BINARY:
                to_device.write(_unmasked(first_byte, payload))
                continue
            frame = msgpack.unpackb(payload)
            if frame["op"] != wire.Op.MESSAGE.value:
                to_device.write(_unmasked(first_byte, payload))
                continue
            given = tamper(frame)
            for one in given:
                to_device.write(_unmasked(BINARY, wire.encode(one)))
            if not given:
                ack = {"op": wire.Op.ACK.value, "ids": [frame["id"]]}
                to_gateway.write(encode_frame(BINARY, wire.encode(ack)))
    raise ConnectionError("closed")


def _unmasked(first_byte: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes((first_byte, len(payload))) + payload
    return bytes((first_byte, 126)) + len(payload).to_bytes(2, "big") + payload
