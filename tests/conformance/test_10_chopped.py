"""Autobahn 10: frames that come in pieces, and several frames in one piece."""

from tests.conformance.case import TEXT_PONG, Case, ping_of, pong, run, table
from tests.conformance.door import CONNECT, Door
from tests.conformance.wire import CONTINUATION, PING, TEXT, close, frame, opening_request

LARGE = frame(TEXT, ping_of(65_536))
MIXED = (
    frame(TEXT, ping_of(60))
    + frame(PING, b"p")
    + frame(TEXT, ping_of(200)[:100], fin=False)
    + frame(PING, b"q")
    + frame(CONTINUATION, ping_of(200)[100:])
)
ANSWERS = (TEXT_PONG, pong(b"p"), pong(b"q"), TEXT_PONG)


@table(
    *(
        Case(f"10.1 65536 in pieces of {n}", "5.2", LARGE, (TEXT_PONG,), None, n)
        for n in (1300, 4096, 65_535)
    ),
    *(Case(f"10.2 mixed in pieces of {n}", "5.2", MIXED, ANSWERS, None, n) for n in range(1, 12)),
    Case("10.3 mixed at once, 20 times", "5.2", MIXED * 20, ANSWERS * 20),
)
async def test_chopped(case: Case, door: Door) -> None:
    await run(case, door)


async def test_frames_in_the_same_piece_as_the_handshake(door: Door) -> None:
    client = await door.client()
    client.send(opening_request() + CONNECT + MIXED + close(1000))
    await client.head()
    _welcome, *answers, last = await client.to_end()
    assert tuple(answers) == ANSWERS
    assert last.code == 1000


async def test_handshake_in_octets(door: Door) -> None:
    client = await door.client()
    await client.send_slowly(opening_request() + CONNECT, 1)
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    client.send(MIXED + close(1000))
    _welcome, *answers, last = await client.to_end()
    assert tuple(answers) == ANSWERS
    assert last.code == 1000
