"""Autobahn 2: pings and pongs."""

from tests.conformance.case import TEXT_PONG, Case, ping_of, pong, run, table
from tests.conformance.door import Door
from tests.conformance.wire import PING, PONG, TEXT, frame

TEN = b"".join(frame(PING, b"payload-%d" % n) for n in range(10))
TEN_PONGS = tuple(pong(b"payload-%d" % n) for n in range(10))
BYTES = bytes(range(256))


@table(
    Case("2.1 empty ping", "5.5.2", frame(PING), (pong(),)),
    Case("2.2 ping with text", "5.5.2", frame(PING, b"Hello"), (pong(b"Hello"),)),
    Case("2.3 ping with bytes", "5.5.2", frame(PING, BYTES[131:]), (pong(BYTES[131:]),)),
    Case("2.3 ping with no UTF-8", "5.5.2", frame(PING, b"\0\xff\xfe"), (pong(b"\0\xff\xfe"),)),
    Case("2.4 ping of 124", "5.5", frame(PING, b"p" * 124), (pong(b"p" * 124),)),
    Case("2.4 ping of 125", "5.5", frame(PING, b"p" * 125), (pong(b"p" * 125),)),
    Case("2.5 ping of 126", "5.5", frame(PING, b"p" * 126), closes=1002),
    Case("2.5 ping of 70000", "5.5", frame(PING, b"p" * 70_000), closes=1002),
    Case("2.5 pong of 126", "5.5", frame(PONG, b"p" * 126), closes=1002),
    Case("2.6 ping of 125 in octets", "5.5", frame(PING, b"p" * 125), (pong(b"p" * 125),), None, 1),
    Case("2.7 pong unasked", "5.5.3", frame(PONG)),
    Case("2.8 pong unasked with payload", "5.5.3", frame(PONG, b"unsolicited")),
    Case("2.9 pong unasked, ping", "5.5.3", frame(PONG, b"x") + frame(PING, b"y"), (pong(b"y"),)),
    Case("2.10 ten pings", "5.5.2", TEN, TEN_PONGS),
    Case("2.11 ten pings in octets", "5.5.2", TEN, TEN_PONGS, None, 1),
    Case(
        "2.12 ping between messages",
        "5.5.2",
        frame(TEXT, ping_of(60)) + frame(PING, b"p") + frame(TEXT, ping_of(60)),
        (TEXT_PONG, pong(b"p"), TEXT_PONG),
    ),
    Case("2.13 unmasked ping", "5.1", frame(PING, b"p", mask=None), closes=1002),
)
async def test_pings(case: Case, door: Door) -> None:
    await run(case, door)
