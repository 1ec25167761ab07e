"""Autobahn 9: large messages, up to the limit and beyond it."""

import pytest

from gateway.settings import Settings
from tests.conformance.case import TEXT_PONG, Case, ping_of, run, table
from tests.conformance.door import Door, open_door
from tests.conformance.test_5_fragmentation import fragments
from tests.conformance.wire import BINARY, CLOSE, CONTINUATION, TEXT, frame

LIMIT = 1_048_576
WHOLE = [
    Case(f"9.1 text of {size}", "5.2", frame(TEXT, ping_of(size)), (TEXT_PONG,))
    for size in (65_536, 262_144, 1_000_000, LIMIT)
]
FRAGMENTED = [
    Case(
        f"9.3 {LIMIT} in fragments of {size}", "5.4", fragments(ping_of(LIMIT), size), (TEXT_PONG,)
    )
    for size in (1024, 4096, 65_536, 1_000_000)
]
PIECES = [
    Case(
        f"9.5 262144 in pieces of {size}",
        "5.2",
        frame(TEXT, ping_of(262_144)),
        (TEXT_PONG,),
        None,
        size,
    )
    for size in (512, 2048, 65_536)
]
BEYOND = [
    Case("9.7 one byte beyond", "7.4.1", frame(TEXT, ping_of(LIMIT + 1)), closes=1009),
    Case("9.7 2^32 announced", "7.4.1", frame(BINARY, b"x", length=1 << 32), closes=1009),
    Case("9.7 2^63 - 1 announced", "7.4.1", frame(BINARY, b"x", length=(1 << 63) - 1), closes=1009),
    Case(
        "9.7 one byte beyond in fragments",
        "7.4.1",
        frame(TEXT, b"*" * LIMIT, fin=False) + frame(CONTINUATION, b"*"),
        closes=1009,
    ),
    Case(
        "9.7 fragments announced beyond",
        "7.4.1",
        frame(TEXT, b"*", fin=False) + frame(CONTINUATION, length=LIMIT),
        closes=1009,
    ),
    Case(
        "9.8 many small messages",
        "5.2",
        frame(TEXT, ping_of(60)) * 500,
        (TEXT_PONG,) * 500,
    ),
    Case(
        "9.9 beyond after good",
        "7.4.1",
        frame(TEXT, ping_of(60)) + frame(TEXT, length=LIMIT + 1),
        (TEXT_PONG,),
        1009,
    ),
]


@table(*WHOLE, *FRAGMENTED, *PIECES, *BEYOND)
async def test_limits(case: Case, door: Door) -> None:
    await run(case, door)


@pytest.mark.parametrize(("size", "code"), [(0, None), (1, 1009)])
async def test_the_default_limit(size: int, code: int | None) -> None:
    async with open_door() as door:
        payload = ping_of(Settings().max_frame_bytes + size)
        answers = () if code else (TEXT_PONG,)
        await run(Case("", "", frame(TEXT, payload), answers, code), door)


async def test_the_limit_is_noticed_before_the_payload_is_sent(door: Door) -> None:
    client = await door.client()
    await client.open()
    client.send(frame(BINARY, length=LIMIT + 1))
    (answer,) = await client.to_end()
    assert (answer.opcode, answer.code) == (CLOSE, 1009)
