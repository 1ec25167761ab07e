"""Autobahn 7: the closing handshake, its codes and reasons."""

from tests.conformance.case import TEXT_PONG, Case, chopped, ping_of, run, table
from tests.conformance.door import Door
from tests.conformance.wire import BINARY, CLOSE, PING, TEXT, close, frame

GOOD_CODES = (
    1000,
    1001,
    1002,
    1003,
    1007,
    1008,
    1009,
    1010,
    1011,
    1012,
    1013,
    1014,
    3000,
    3999,
    4000,
    4999,
)
BAD_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
MESSAGE = frame(TEXT, ping_of(60))
ORDERLY = [
    Case("7.1 message, then close", "5.5.1", MESSAGE + close(1000), (TEXT_PONG,), 1000),
    Case("7.1 two closes", "5.5.1", close(1000) * 2, closes=1000),
    Case("7.1 ping after close", "5.5.1", close(1000) + frame(PING), closes=1000),
    Case("7.1 message after close", "5.5.1", close(1000) + MESSAGE, closes=1000),
    Case(
        "7.1 unfinished message, close",
        "5.5.1",
        frame(TEXT, b"a", fin=False) + close(1000),
        closes=1000,
    ),
    Case("7.1 rubbish after close", "5.5.1", close(1000) + b"\xff" * 1000, closes=1000),
    Case("7.3 empty close", "5.5.1, 7.1.5", close(), closes=0),
    Case("7.3 close of one byte", "5.5.1", frame(CLOSE, b"\x03"), closes=1002),
    Case("7.3 code alone", "5.5.1", close(1000), closes=1000),
    Case("7.3 code and reason", "5.5.1", close(1000, b"bye"), closes=1000),
    Case("7.3 longest reason", "5.5.1", close(1000, b"*" * 123), closes=1000),
    Case("7.3 reason too long", "5.5", close(1000, b"*" * 124), closes=1002),
    Case("7.5 reason of no UTF-8", "5.5.1, 8.1", close(1000, b"\xce\xba\xed\xa0\x80"), closes=1007),
    Case("7.5 reason cut in a character", "5.5.1, 8.1", close(1000, b"\xc3"), closes=1007),
    Case("7.5 reason of UTF-8", "5.5.1", close(1000, "κόσμε".encode()), closes=1000),
    Case("7.6 unmasked close", "5.1", frame(CLOSE, b"\x03\xe8", mask=None), closes=1002),
]
CODES = [Case(f"7.7 code {code}", "7.4", close(code), closes=code) for code in GOOD_CODES]
WRONG = [Case(f"7.9 code {code}", "7.4", close(code), closes=1002) for code in BAD_CODES]
WITH_REASON = [
    Case(f"7.9 code {code} with a reason", "7.4", close(code, b"why"), closes=1002)
    for code in BAD_CODES
]


@table(
    *ORDERLY, *CODES, *WRONG, *WITH_REASON, *(chopped(case, 1, "in octets") for case in ORDERLY[:6])
)
async def test_close(case: Case, door: Door) -> None:
    await run(case, door)


async def test_the_server_ends_the_stream_first_and_the_session_is_over(door: Door) -> None:
    client = await door.client()
    await client.open()
    client.send(close(1000))
    assert [answer.code for answer in await client.to_end()] == [1000]
    assert door.shard.reasons == ["client_close"]


async def test_the_servers_close_waits_for_the_clients(door: Door) -> None:
    client = await door.client()
    await client.open()
    client.send(frame(BINARY, b"no text on a JSON socket"))
    (answer,) = await client.frames(1)
    assert answer.code == 1003
    assert not client.reader.at_eof()
    client.send(close(1003))
    assert await client.to_end() == []


async def test_a_socket_that_ends_without_a_close_frame_ends_the_session(door: Door) -> None:
    client = await door.client()
    await client.open()
    client.writer.write_eof()
    assert await client.to_end() == []
    assert door.shard.reasons == ["lost"]
