"""The frame reader and writer: every rule of RFC 6455 that a server's side has, however it is cut.

Events are compared with what a second, simpler reader would say; the rest of the proof, on a real
socket, is in tests/conformance.
"""

import itertools
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.shard import frames
from gateway.shard.frames import (
    Closed,
    Event,
    Failed,
    Ping,
    Pong,
    Reader,
    build_frame,
    build_header,
    close_frame,
)
from router.model.errors import CloseCode
from tests.conformance import wire
from tests.conformance.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

LIMIT = 1000
PROTOCOL = CloseCode.PROTOCOL_ERROR
INVALID = CloseCode.INVALID_PAYLOAD
TOO_BIG = CloseCode.TOO_BIG


def read(*chunks: bytes, limit: int = LIMIT) -> list[Event]:
    reader = Reader(limit)
    return [event for chunk in chunks for event in reader.feed(chunk)]


def each(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def codes(events: list[Event]) -> list[object]:
    return [event.code if isinstance(event, Failed) else event for event in events]


GOOD: list[tuple[str, bytes, list[Event]]] = [
    ("empty text", wire.frame(TEXT), [""]),
    ("empty binary", wire.frame(BINARY), [b""]),
    ("text", wire.frame(TEXT, "héllo ☃ 😀".encode()), ["héllo ☃ 😀"]),
    ("binary", wire.frame(BINARY, bytes(range(125))), [bytes(range(125))]),
    ("binary of 126", wire.frame(BINARY, b"x" * 126), [b"x" * 126]),
    ("text of the limit", wire.frame(TEXT, b"x" * LIMIT), ["x" * LIMIT]),
    ("two messages", wire.frame(TEXT, b"a") + wire.frame(BINARY, b"b"), ["a", b"b"]),
    ("ping", wire.frame(PING, b"p"), [Ping(b"p")]),
    ("empty ping", wire.frame(PING), [Ping(b"")]),
    ("ping of 125", wire.frame(PING, b"p" * 125), [Ping(b"p" * 125)]),
    ("pong", wire.frame(PONG, b"p"), [Pong(b"p")]),
    (
        "fragments",
        wire.frame(BINARY, b"a", fin=False)
        + wire.frame(CONTINUATION, b"b", fin=False)
        + wire.frame(CONTINUATION, b"c"),
        [b"abc"],
    ),
    (
        "empty fragments",
        wire.frame(TEXT, fin=False) + wire.frame(CONTINUATION, fin=False) + wire.frame(0),
        [""],
    ),
    (
        "a character across fragments",
        wire.frame(TEXT, b"\xf0\x9f", fin=False) + wire.frame(CONTINUATION, b"\x98\x80"),
        ["😀"],
    ),
    (
        "control frames between fragments",
        wire.frame(TEXT, b"a", fin=False)
        + wire.frame(PING, b"1")
        + wire.frame(PONG, b"2")
        + wire.frame(CONTINUATION, b"b"),
        [Ping(b"1"), Pong(b"2"), "ab"],
    ),
    ("close", wire.close(), [Closed(frames.NO_STATUS, "")]),
    ("close with a code", wire.close(1000), [Closed(1000, "")]),
    ("close with a reason", wire.close(4999, "späť".encode()), [Closed(4999, "späť")]),
    ("nothing after a close", wire.close(1001) + wire.frame(TEXT, b"a"), [Closed(1001, "")]),
    (
        "close within a message",
        wire.frame(TEXT, b"a", fin=False) + wire.close(1000),
        [Closed(1000, "")],
    ),
    ("a mask of zeros", wire.frame(TEXT, b"abc", mask=bytes(4)), ["abc"]),
]

BAD: list[tuple[str, bytes, CloseCode]] = [
    ("unmasked", wire.frame(TEXT, b"a", mask=None), PROTOCOL),
    ("unmasked, long enough for a header", wire.frame(BINARY, b"abcdef", mask=None), PROTOCOL),
    *(
        (f"reserved bits {bits}", wire.frame(TEXT, b"a", rsv=bits), PROTOCOL)
        for bits in range(1, 8)
    ),
    *(
        (f"opcode {code}", wire.frame(code), PROTOCOL)
        for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    ("long ping", wire.frame(PING, b"p" * 126), PROTOCOL),
    ("long close", wire.close(1000, b"p" * 124), PROTOCOL),
    ("fragmented ping", wire.frame(PING, fin=False), PROTOCOL),
    ("fragmented close", wire.frame(CLOSE, fin=False), PROTOCOL),
    ("nothing to continue", wire.frame(CONTINUATION, b"a"), PROTOCOL),
    ("message in message", wire.frame(TEXT, b"a", fin=False) + wire.frame(TEXT, b"a"), PROTOCOL),
    ("5 in two bytes", wire.frame(BINARY, b"hello", form=2), PROTOCOL),
    ("125 in two bytes", wire.frame(BINARY, b"h" * 125, form=2), PROTOCOL),
    ("126 in eight bytes", wire.frame(BINARY, b"h" * 126, form=8), PROTOCOL),
    ("65535 in eight bytes", wire.frame(BINARY, form=8, length=65_535), PROTOCOL),
    ("64 bits of length", wire.frame(BINARY, form=8, length=1 << 63), PROTOCOL),
    ("too big", wire.frame(BINARY, length=LIMIT + 1), TOO_BIG),
    ("much too big", wire.frame(BINARY, length=(1 << 63) - 1), TOO_BIG),
    ("too big together", wire.frame(TEXT, b"a", fin=False) + wire.frame(0, length=LIMIT), TOO_BIG),
    ("bad text", wire.frame(TEXT, b"a\xff"), INVALID),
    ("incomplete text", wire.frame(TEXT, b"a\xc3"), INVALID),
    ("surrogate", wire.frame(TEXT, b"\xed\xa0\x80"), INVALID),
    ("bad text before its end", wire.frame(TEXT, b"a\xff", fin=False), INVALID),
    ("bad text in fragments", wire.frame(TEXT, b"\xc3", fin=False) + wire.frame(0, b"a"), INVALID),
    ("cut text in fragments", wire.frame(TEXT, b"a", fin=False) + wire.frame(0, b"\xc3"), INVALID),
    ("half a close code", wire.frame(CLOSE, b"\x03"), PROTOCOL),
    ("bad close reason", wire.close(1000, b"\xff"), INVALID),
]
SENDABLE = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


@pytest.mark.parametrize(("data", "expected"), [pytest.param(*c[1:], id=c[0]) for c in GOOD])
def test_gives_what_was_sent_whole_and_byte_by_byte(data: bytes, expected: list[Event]) -> None:
    assert read(data) == expected
    assert read(*each(data)) == expected


@pytest.mark.parametrize(("data", "code"), [pytest.param(*c[1:], id=c[0]) for c in BAD])
def test_refuses_with_the_code_of_the_rfc(data: bytes, code: CloseCode) -> None:
    assert codes(read(data))[-1] is code
    assert codes(read(*each(data)))[-1] is code


@pytest.mark.parametrize("code", [*range(990, 1020), 1100, 2000, 2999, 3000, 4999, 5000, 65_535])
def test_close_codes(code: int) -> None:
    expected = Closed(code, "") if code in SENDABLE else PROTOCOL
    assert codes(read(wire.close(code))) == [expected]


@pytest.mark.parametrize("data", [wire.frame(TEXT, b"\xff"), wire.frame(BINARY, b"a", rsv=1)])
def test_says_nothing_after_a_violation(data: bytes) -> None:
    reader = Reader(LIMIT)
    assert isinstance(reader.feed(data)[-1], Failed)
    assert not reader.feed(wire.frame(TEXT, b"a"))


def test_gives_what_came_before_a_violation() -> None:
    events = read(wire.frame(TEXT, b"a") + wire.frame(PING) + wire.frame(11))
    assert codes(events) == ["a", Ping(b""), PROTOCOL]


def test_bad_text_fails_before_its_frame_is_whole() -> None:
    data = wire.frame(TEXT, b"\xce\xba\xf4\x90\x80\x80abc")
    head = 6 + 3  # up to F4, which alone may still become good
    reader = Reader(LIMIT)
    assert not reader.feed(data[:head])
    assert codes(list(reader.feed(data[head : head + 1]))) == [INVALID]


def test_a_length_beyond_the_limit_fails_before_its_payload_and_mask() -> None:
    assert codes(read(wire.frame(BINARY, length=LIMIT + 1)[:4])) == [TOO_BIG]


def test_the_limit_counts_on_the_short_path_too() -> None:
    assert read(wire.frame(BINARY, b"1234"), limit=4) == [b"1234"]
    assert codes(read(wire.frame(BINARY, b"12345"), limit=4)) == [TOO_BIG]


def test_keeps_nothing_between_messages() -> None:
    reader = Reader(LIMIT)
    for data in (wire.frame(TEXT, b"a" * 200), wire.frame(PING)):
        for byte in each(data):
            reader.feed(byte)
        assert reader._assembly is None


def test_a_cut_stream_costs_each_byte_once() -> None:
    size = 200_000
    reader = Reader(size)
    data = wire.frame(BINARY, length=size)
    reader.feed(data)
    piece = bytes(10)
    tracemalloc.start()
    for _ in range(size // len(piece) - 1):
        assert not reader.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * size
    (event,) = reader.feed(piece)
    assert len(event) == size if isinstance(event, bytes) else False


# Properties.

masks = st.binary(min_size=4, max_size=4)
data_payloads = st.one_of(st.binary(max_size=300), st.text(max_size=80).map(str.encode))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """Well-formed messages in fragments with control frames between them, and their events."""
    out: list[bytes] = []
    events: list[Event] = []

    def control() -> None:
        payload = draw(st.binary(max_size=125))
        ping = draw(st.booleans())
        out.append(wire.frame(PING if ping else PONG, payload, mask=draw(masks)))
        events.append(Ping(payload) if ping else Pong(payload))

    for _ in range(draw(st.integers(0, 4))):
        message: bytes | str = draw(st.one_of(st.binary(max_size=400), st.text(max_size=200)))
        payload = message.encode() if isinstance(message, str) else message
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        edges = [0, *cuts, len(payload)]
        opcode = TEXT if isinstance(message, str) else BINARY
        for index, (start, end) in enumerate(itertools.pairwise(edges)):
            last = index == len(edges) - 2
            piece = payload[start:end]
            out.append(wire.frame(opcode, piece, fin=last, mask=draw(masks)))
            opcode = CONTINUATION
            if not last and draw(st.booleans()):
                control()
        events.append(message)
        if draw(st.booleans()):
            control()
    return b"".join(out), events


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


places = st.lists(st.integers(0, 5000), max_size=20)


@pytest.mark.slow
@given(streams(), places)
def test_however_a_stream_is_cut_its_events_are_the_same(
    stream: tuple[bytes, list[Event]], at: list[int]
) -> None:
    data, events = stream
    assert read(*cut(data, at)) == events
    assert read(*each(data)) == events


@pytest.mark.slow
@given(
    streams(), places, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=5)
)
def test_a_mutated_stream_is_read_the_same_however_it_is_cut(
    stream: tuple[bytes, list[Event]], at: list[int], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(stream[0])
    for place, value in changes:
        if data:
            data[place % len(data)] = value
    whole = read(bytes(data))
    assert codes(read(*cut(bytes(data), at))) == codes(whole)
    assert not any(isinstance(event, Failed | Closed) for event in whole[:-1])


@given(st.lists(st.binary(max_size=60), max_size=10))
@example([b"\x81"])
@example([b"\x81\x80\x00\x00\x00", b"\x00"])
def test_random_bytes_end_in_events_or_a_violation(chunks: list[bytes]) -> None:
    events = read(*chunks)
    assert codes(events) == codes(read(b"".join(chunks)))


@given(st.binary(max_size=200), st.booleans())
def test_text_is_accepted_exactly_where_python_decodes_it(payload: bytes, fragmented: bool) -> None:
    half = len(payload) // 2
    data = wire.frame(TEXT, payload)
    if fragmented:
        data = wire.frame(TEXT, payload[:half], fin=False) + wire.frame(0, payload[half:])
    try:
        expected: object = payload.decode()
    except UnicodeDecodeError:
        expected = INVALID
    assert codes(read(data)) == [expected]
    assert codes(read(*each(data))) == [expected]


# Writing.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_writes_unmasked_frames_with_the_shortest_length(opcode: int, size: int) -> None:
    payload = b"x" * size
    assert build_frame(opcode, payload) == wire.frame(opcode, payload, mask=None)
    assert build_header(opcode, size) + payload == build_frame(opcode, payload)
    assert wire.read_frames(build_frame(opcode, payload)) == ([(opcode, payload)], b"")


def test_writes_close_frames() -> None:
    assert close_frame(frames.NO_STATUS) == b"\x88\x00"
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
    assert close_frame(4002, "displaced") == b"\x88\x0b\x0f\xa2displaced"


@given(st.text(max_size=200))
def test_cuts_a_close_reason_between_characters(reason: str) -> None:
    ((opcode, payload),), rest = wire.read_frames(close_frame(1000, reason))
    assert (opcode, rest) == (CLOSE, b"")
    assert len(payload) <= frames.MAX_CONTROL
    assert reason.startswith(payload[2:].decode())
    assert payload[2:].decode() == reason or len(payload) > frames.MAX_CONTROL - 4
