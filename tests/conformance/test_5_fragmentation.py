"""Autobahn 5: fragmented messages, with control frames between the fragments."""

from tests.conformance.case import (
    BINARY_PONG,
    TEXT_PONG,
    Case,
    chopped,
    ping_binary,
    ping_of,
    pong,
    run,
    table,
)
from tests.conformance.door import Door
from tests.conformance.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MSGPACK,
    PING,
    PONG,
    TEXT,
    close,
    frame,
)

PAYLOAD = ping_of(90)
PACKED = ping_binary(300)
A, B = PAYLOAD[:40], PAYLOAD[40:]


def start(payload: bytes = A, opcode: int = TEXT) -> bytes:
    return frame(opcode, payload, fin=False)


def middle(payload: bytes = b"") -> bytes:
    return frame(CONTINUATION, payload, fin=False)


def end(payload: bytes = B) -> bytes:
    return frame(CONTINUATION, payload)


def fragments(payload: bytes, size: int, opcode: int = TEXT, between: bytes = b"") -> bytes:
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    first, *others = pieces
    return between.join((start(first, opcode), *map(middle, others[:-1]), end(others[-1])))


GOOD = [
    Case("5.3 two fragments", "5.4", start() + end(), (TEXT_PONG,)),
    Case("5.3 binary", "5.4", fragments(PACKED, 99, BINARY), (BINARY_PONG,), subprotocol=MSGPACK),
    Case("5.4 octets as fragments", "5.4", fragments(PAYLOAD, 1), (TEXT_PONG,)),
    Case("5.5 empty first", "5.4", start(b"") + end(PAYLOAD), (TEXT_PONG,)),
    Case("5.5 empty last", "5.4", start(PAYLOAD) + end(b""), (TEXT_PONG,)),
    Case("5.5 empty between", "5.4", start() + middle() * 5 + end(), (TEXT_PONG,)),
    Case("5.6 ping between", "5.4", start() + frame(PING, b"p") + end(), (pong(b"p"), TEXT_PONG)),
    Case("5.6 pong between", "5.4", start() + frame(PONG, b"p") + end(), (TEXT_PONG,)),
    Case(
        "5.7 ping between all",
        "5.4",
        fragments(PAYLOAD, 20, between=frame(PING, b"p")),
        (*[pong(b"p")] * 4, TEXT_PONG),
    ),
    Case("5.8 two in fragments", "5.4", (start() + end()) * 2, (TEXT_PONG, TEXT_PONG)),
    Case(
        "5.8 whole after fragments",
        "5.4",
        start() + end() + frame(TEXT, PAYLOAD),
        (TEXT_PONG, TEXT_PONG),
    ),
    Case("5.8 300 fragments", "5.4", start() + middle() * 300 + end(), (TEXT_PONG,)),
]
BAD = [
    Case("5.1 fragmented ping", "5.5", frame(PING, b"p", fin=False) + end(b"q"), closes=1002),
    Case("5.2 fragmented pong", "5.5", frame(PONG, b"p", fin=False) + end(b"q"), closes=1002),
    Case("5.2 fragmented close", "5.5", frame(CLOSE, fin=False), closes=1002),
    Case("5.9 continuation first", "5.4", end(), closes=1002),
    Case("5.10 open continuation first", "5.4", middle(b"a") + end(), closes=1002),
    Case(
        "5.11 continuation after a message", "5.4", frame(TEXT, PAYLOAD) + end(), (TEXT_PONG,), 1002
    ),
    Case("5.12 continuation after fragments", "5.4", start() + end() + end(), (TEXT_PONG,), 1002),
    Case("5.15 continuation between", "5.4", (start() + end() + middle()) * 2, (TEXT_PONG,), 1002),
    Case("5.16 text in text", "5.4", start() + frame(TEXT, B), closes=1002),
    Case("5.17 text start in text", "5.4", start() + start(B), closes=1002),
    Case("5.18 binary in text", "5.4", start() + frame(BINARY, B), closes=1002),
    Case(
        "5.19 pings, then text in text",
        "5.4",
        start() + frame(PING, b"1") + middle() + frame(PING, b"2") + frame(TEXT, B),
        (pong(b"1"), pong(b"2")),
        closes=1002,
    ),
    Case(
        "5.20 ping of the message's length in it",
        "5.5",
        start() + frame(PING, b"p" * 126),
        closes=1002,
    ),
    Case("5.21 close in a message", "5.5.1", start() + close(1000), closes=1000),
]


@table(*GOOD, *BAD, *(chopped(case, 1, "in octets") for case in (*GOOD[:8], *BAD)))
async def test_fragmentation(case: Case, door: Door) -> None:
    await run(case, door)
