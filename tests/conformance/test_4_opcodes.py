"""Autobahn 4: reserved opcodes."""

from tests.conformance.case import TEXT_PONG, Case, chopped, ping_of, run, table
from tests.conformance.door import Door
from tests.conformance.wire import PING, TEXT, frame

RESERVED = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
GOOD = frame(TEXT, ping_of(60))
EMPTY = [Case(f"4.1 opcode {code}", "5.2", frame(code), closes=1002) for code in RESERVED]
FILLED = [
    Case(f"4.2 opcode {code} with payload", "5.2", frame(code, b"reserved"), closes=1002)
    for code in RESERVED
]
AFTER = [
    Case(
        f"4.3 opcode {code} between messages",
        "5.2",
        GOOD + frame(code, b"reserved") + frame(PING),
        (TEXT_PONG,),
        closes=1002,
    )
    for code in RESERVED
]
OCTETS = [chopped(case, 1, "in octets") for case in AFTER]
UNFINISHED = [
    Case(f"4.4 opcode {code} without FIN", "5.2", frame(code, fin=False), closes=1002)
    for code in RESERVED
]


@table(*EMPTY, *FILLED, *AFTER, *OCTETS, *UNFINISHED)
async def test_opcodes(case: Case, door: Door) -> None:
    await run(case, door)
