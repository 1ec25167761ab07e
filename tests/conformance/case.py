"""One row of a table: what is sent, what must come back on the wire, and the run of it."""

from typing import NamedTuple

import msgpack
import pytest

from tests.conformance.door import Door
from tests.conformance.wire import (
    BINARY,
    CLOSE,
    JSON,
    MSGPACK,
    PING,
    PONG,
    TEXT,
    ServerFrame,
    close,
    frame,
)

# Our server is no echo: a frame `ping` with an unknown key is answered by `pong`, and only if its
# payload was read whole and right.
_HEAD, _TAIL = b'{"op":"ping","pad":"', b'"}'
TEXT_PONG = ServerFrame(TEXT, b'{"op":"pong"}')
BINARY_PONG = ServerFrame(BINARY, msgpack.packb({"op": "pong"}))
SMALLEST = len(_HEAD + _TAIL)


def ping_text(pad: bytes | str = b"") -> bytes:
    """Give the JSON ping with something to carry."""
    return _HEAD + (pad.encode() if isinstance(pad, str) else pad) + _TAIL


def ping_of(size: int) -> bytes:
    """Give a JSON ping of so many bytes."""
    return ping_text(b"*" * (size - SMALLEST))


def ping_binary(size: int) -> bytes:
    """Give a msgpack ping of about so many bytes, and exactly from 300 to 65535."""
    bare = len(msgpack.packb({"op": "ping", "pad": bytes(300)})) - 300
    packed: bytes = msgpack.packb({"op": "ping", "pad": b"\xfe" * max(size - bare, 0)})
    return packed


def pong(payload: bytes = b"") -> ServerFrame:
    """Give the answer to a WebSocket ping."""
    return ServerFrame(PONG, payload)


class Case(NamedTuple):
    """A row.

    With `closes` the server must answer, then send a close frame with that code (0: without one)
    and end the stream; without, it must answer and go on: a ping is answered, and a close.
    """

    id: str
    section: str
    """Of RFC 6455."""
    send: bytes
    answers: tuple[ServerFrame, ...] = ()
    closes: int | None = None
    pieces: int = 0
    """Send in pieces of so many bytes; 0 for at once."""
    subprotocol: str = JSON


def chopped(case: Case, pieces: int, suffix: str) -> Case:
    """Give the same case with its bytes sent in pieces."""
    return case._replace(id=f"{case.id} {suffix}", pieces=pieces)


def table(*cases: Case) -> pytest.MarkDecorator:
    """Parametrise a test by the cases' ids."""
    assert len({case.id for case in cases}) == len(cases)
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


async def run(case: Case, door: Door) -> None:
    """Send the case's bytes on a fresh socket and compare every byte that comes back."""
    client = await door.client()
    await client.connect_device(case.subprotocol)
    if case.pieces:
        await client.send_slowly(case.send, case.pieces)
    else:
        client.send(case.send)
    expected = list(case.answers)
    if case.closes is None:
        client.send(frame(PING, b"still there?") + close(1000))
        expected += [pong(b"still there?"), ServerFrame(CLOSE, b"\x03\xe8")]
    *answers, last = await client.to_end()
    assert answers == expected[: len(answers)]
    assert len(answers) == len(case.answers) + (case.closes is None)
    assert last.opcode == CLOSE
    if case.closes is None:
        assert last == expected[-1]
    else:
        assert last.code == (case.closes or None)
        last.payload[2:].decode()


__all__ = [
    "BINARY_PONG",
    "MSGPACK",
    "SMALLEST",
    "TEXT_PONG",
    "Case",
    "chopped",
    "ping_binary",
    "ping_of",
    "ping_text",
    "pong",
    "run",
    "table",
]
