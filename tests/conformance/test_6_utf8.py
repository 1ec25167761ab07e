"""Autobahn 6: text is UTF-8, in every message, fragment and piece, and fails as early as it can."""

from tests.conformance.case import TEXT_PONG, Case, chopped, ping_text, run, table
from tests.conformance.door import Door
from tests.conformance.wire import CONTINUATION, TEXT, close, frame

VALID = {
    "6.2 words": "Hello-µ@ßöäüàá-UTF-8!! κόσμε",
    "6.5 shortest and longest of 1": " ~\x7f",
    "6.5 shortest and longest of 2": "\x80\u07ff",
    "6.5 shortest and longest of 3": "\u0800\uffff",
    "6.5 shortest and longest of 4": "\U00010000\U0010ffff",
    "6.7 before and after surrogates": "\ud7ff\ue000",
    "6.9 replacement character": "\ufffd",
    "6.9 byte order mark": "\ufeff",
    "6.22 noncharacters": "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff",
    "6.23 emoji of several": "👩‍👩‍👧‍👦🇩🇪",
}
INVALID = {
    "6.3 cut by another letter": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80edited",
    "6.6 2 of 2 missing": b"\xc3",
    "6.6 2 of 3 missing": b"\xe1",
    "6.6 3 of 3 missing": b"\xe1\xbd",
    "6.6 2 of 4 missing": b"\xf0",
    "6.6 3 of 4 missing": b"\xf0\x9f",
    "6.6 4 of 4 missing": b"\xf0\x9f\x98",
    "6.8 five bytes": b"\xf8\x88\x80\x80\x80",
    "6.8 six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "6.10 above 10FFFF": b"\xf4\x90\x80\x80",
    "6.10 F5": b"\xf5\x80\x80\x80",
    "6.12 lone continuation 80": b"\x80",
    "6.12 lone continuation BF": b"\xbf",
    "6.12 seven continuations": b"\x80\xbf\x80\xbf\x80\xbf\x80",
    "6.13 start of 2, space": b"\xc2 ",
    "6.13 start of 3, space": b"\xe0 ",
    "6.13 start of 4, space": b"\xf0 ",
    "6.14 two starts": b"\xc3\xc3\xa4",
    "6.15 cut sequences in a row": b"\xc3\xe1\xbd\xf0\x9f\x98",
    "6.16 FE": b"\xfe",
    "6.16 FF": b"\xff",
    "6.17 overlong slash of 2": b"\xc0\xaf",
    "6.17 overlong slash of 3": b"\xe0\x80\xaf",
    "6.17 overlong slash of 4": b"\xf0\x80\x80\xaf",
    "6.18 longest overlong of 2": b"\xc1\xbf",
    "6.18 longest overlong of 3": b"\xe0\x9f\xbf",
    "6.18 longest overlong of 4": b"\xf0\x8f\xbf\xbf",
    "6.19 overlong zero": b"\xc0\x80",
    "6.20 first high surrogate": b"\xed\xa0\x80",
    "6.20 last high surrogate": b"\xed\xaf\xbf",
    "6.20 first low surrogate": b"\xed\xb0\x80",
    "6.21 surrogate pair": b"\xed\xa0\xb4\xed\xb4\x9e",
}


def octets(payload: bytes) -> bytes:
    """Write a text with each byte in a fragment of its own."""
    first, *others = [payload[at : at + 1] for at in range(len(payload))]
    middle = b"".join(frame(CONTINUATION, byte, fin=False) for byte in others)
    return frame(TEXT, first, fin=False) + middle + frame(CONTINUATION)


GOOD = [
    Case(name, "8.1", frame(TEXT, ping_text(text)), (TEXT_PONG,)) for name, text in VALID.items()
]
GOOD_OCTETS = [
    Case(f"{name} in fragments", "5.6, 8.1", octets(ping_text(text)), (TEXT_PONG,))
    for name, text in VALID.items()
]
BAD = [
    Case(name, "8.1", frame(TEXT, ping_text(octet)), closes=1007) for name, octet in INVALID.items()
]
BAD_OCTETS = [
    Case(f"{name} in fragments", "5.6, 8.1", octets(ping_text(octet)), closes=1007)
    for name, octet in INVALID.items()
]
AT_THE_END = [
    Case(f"{name} at the very end", "8.1", frame(TEXT, octet), closes=1007)
    for name, octet in INVALID.items()
    if name.startswith("6.6")
]
AFTER_GOOD = [
    Case(
        "6.24 bad after good",
        "8.1",
        frame(TEXT, ping_text("ok")) + frame(TEXT, b"\xff"),
        (TEXT_PONG,),
        closes=1007,
    ),
    Case("6.24 bad alone", "8.1", frame(TEXT, b"\xff"), closes=1007),
]


@table(*GOOD, *GOOD_OCTETS, *BAD, *BAD_OCTETS, *AT_THE_END, *AFTER_GOOD)
async def test_utf8(case: Case, door: Door) -> None:
    await run(case, door)


@table(*(chopped(case, 1, "in octets") for case in (*GOOD[:3], *BAD[:6])))
async def test_utf8_in_pieces(case: Case, door: Door) -> None:
    await run(case, door)


BEYOND_HOPE = b"\xce\xba\xe1\xbd\xb9\xf4\x90"
"""Whatever follows, this is not UTF-8."""


@table(
    Case(
        "6.4 in a fragment, the message unfinished",
        "8.1",
        frame(TEXT, b"\xce\xba", fin=False) + frame(CONTINUATION, BEYOND_HOPE, fin=False),
        closes=1007,
    ),
    Case(
        "6.4 in a frame, the frame unfinished",
        "8.1",
        frame(TEXT, BEYOND_HOPE, length=9),
        closes=1007,
    ),
    Case(
        "6.4 in a fragment, the fragment unfinished",
        "8.1",
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, BEYOND_HOPE, length=100),
        closes=1007,
    ),
)
async def test_fails_fast_without_waiting_for_the_rest(case: Case, door: Door) -> None:
    await run(case, door)


async def test_a_split_character_waits_for_its_rest(door: Door) -> None:
    client = await door.device()
    data = frame(TEXT, ping_text("😀"))
    cut = len(data) - 4
    await client.send_slowly(data[:cut], 1)
    client.send(data[cut:] + close(1000))
    answers = await client.to_end()
    assert answers[0] == TEXT_PONG
    assert answers[1].code == 1000
