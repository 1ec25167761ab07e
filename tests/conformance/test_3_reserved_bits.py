"""Autobahn 3: no extension is negotiated, so every reserved bit is an error."""

from tests.conformance.case import TEXT_PONG, Case, chopped, ping_of, pong, run, table
from tests.conformance.door import Door
from tests.conformance.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

NAMES = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong", CLOSE: "close"}
ALONE = [
    Case(f"3.1 bits {rsv} on {name}", "5.2", frame(opcode, b"", rsv=rsv), closes=1002)
    for rsv in range(1, 8)
    for opcode, name in NAMES.items()
]
GOOD = frame(TEXT, ping_of(60))
AFTER = [
    Case(
        f"3.2 bits {rsv} after a message",
        "5.2",
        GOOD + frame(TEXT, GOOD, rsv=rsv),
        (TEXT_PONG,),
        1002,
    )
    for rsv in range(1, 8)
]
OCTETS = [chopped(case, 1, "in octets") for case in AFTER]
OTHER = [
    Case(
        "3.3 bit on a continuation",
        "5.2",
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", rsv=4),
        closes=1002,
    ),
    Case("3.4 bit after a ping", "5.2", frame(PING) + frame(BINARY, b"", rsv=1), (pong(),), 1002),
]


@table(*ALONE, *AFTER, *OCTETS, *OTHER)
async def test_reserved_bits(case: Case, door: Door) -> None:
    await run(case, door)
