"""Autobahn 1: text and binary messages of each length form, whole and in pieces."""

from tests.conformance.case import (
    BINARY_PONG,
    SMALLEST,
    TEXT_PONG,
    Case,
    chopped,
    ping_binary,
    ping_of,
    run,
    table,
)
from tests.conformance.door import Door
from tests.conformance.wire import BINARY, MSGPACK, TEXT, frame

SIZES = (SMALLEST, 124, 125, 126, 127, 128, 1000, 65_535, 65_536, 100_000)
TEXTS = [
    Case(f"1.1 text of {size}", "5.2, 5.6", frame(TEXT, ping_of(size)), (TEXT_PONG,))
    for size in SIZES
]
BINARIES = [
    Case(
        f"1.2 binary of {size}",
        "5.2, 5.6",
        frame(BINARY, ping_binary(size)),
        (BINARY_PONG,),
        subprotocol=MSGPACK,
    )
    for size in (20, 120, 130, 300, 1000, 65_535, 65_600, 100_000)
]
CHOPPED = [
    chopped(case, 997, "in pieces of 997")
    for case in (*TEXTS, *BINARIES)
    if len(case.send) > 60_000
]
MASKS = [
    Case(f"1.3 mask {mask.hex()}", "5.3", frame(TEXT, ping_of(300), mask=mask), (TEXT_PONG,))
    for mask in (bytes(4), b"\xff" * 4, b"\x00\x00\x00\x01", b"\x80\x40\x20\x10")
]
UNMASKED = [
    Case("1.4 unmasked text", "5.1", frame(TEXT, ping_of(60), mask=None), closes=1002),
    Case("1.4 unmasked binary", "5.1", frame(BINARY, b"\x80", mask=None), closes=1002),
    Case(
        "1.4 unmasked after masked",
        "5.1",
        frame(TEXT, ping_of(60)) + frame(TEXT, ping_of(60), mask=None),
        (TEXT_PONG,),
        closes=1002,
    ),
]
FORMS = [
    Case(f"1.5 {size} in {form} bytes", "5.2", frame(TEXT, ping_of(size), form=form), closes=1002)
    for size, form in ((60, 2), (125, 2), (60, 8), (126, 8), (65_535, 8))
] + [Case("1.5 length with its first bit", "5.2", frame(TEXT, form=8, length=1 << 63), closes=1002)]


@table(*TEXTS, *BINARIES, *CHOPPED, *MASKS, *UNMASKED, *FORMS)
async def test_framing(case: Case, door: Door) -> None:
    await run(case, door)
