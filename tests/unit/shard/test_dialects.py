"""What every dialect keeps to, whoever wrote it: all that are found are put to the same test."""

import json
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shard.dialect import (
    AckFrame,
    BadFrameError,
    Connect,
    Dialect,
    Dropped,
    Error,
    EventFrame,
    Goaway,
    NackFrame,
    Ok,
    Ping,
    Pong,
    SendFrame,
    ServerFrame,
    TokenFrame,
    Welcome,
    WrongTypeError,
)
from gateway.shard.dialects import discover
from sdk_client import wire

Write = Callable[[object], bytes | str]
DIALECTS = discover()
WRITERS: dict[str, Write] = {
    wire.SUBPROTOCOL_JSON: json.dumps,
    wire.SUBPROTOCOL_MSGPACK: msgpack.packb,
}
"""How a device writes a map; another library than the gateway's."""

_texts = st.text(max_size=20)
_ids = st.text(min_size=1, max_size=64)
_plain: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e9, 1e9) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(params=sorted(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


@pytest.fixture
def write(dialect: Dialect) -> Write:
    return WRITERS[dialect.subprotocol]


def refusal(dialect: Dialect, payload: bytes | str) -> tuple[str, str]:
    """The code and the ref of the error that a frame is answered with."""
    with pytest.raises(BadFrameError) as caught:
        dialect.decode(payload)
    assert caught.value.message
    return caught.value.code, caught.value.ref


def test_both_native_dialects_are_found_and_msgpack_is_preferred() -> None:
    assert list(DIALECTS) == [wire.SUBPROTOCOL_MSGPACK, wire.SUBPROTOCOL_JSON]
    assert all(name == dialect.subprotocol for name, dialect in DIALECTS.items())


FRAMES: dict[str, tuple[dict[str, object], object]] = {
    "connect": (
        {"op": "connect", "credential": "c", "sdk": "s", "app_version": "1", "heartbeat": 60},
        Connect("c", "s", "1", 60),
    ),
    "connect, short": ({"op": "connect", "credential": "c"}, Connect("c")),
    "connect, token": (
        {"op": "connect", "credential": "c", "token": "t"},
        Connect("c", "", "", 0, "t"),
    ),
    "ack": ({"op": "ack", "ids": ["a", "b"]}, AckFrame(["a", "b"])),
    "ack of none": ({"op": "ack", "ids": []}, AckFrame([])),
    "nack": (
        {"op": "nack", "id": "a", "reason": "busy", "retry_after": 1.5},
        NackFrame("a", "busy", 1.5),
    ),
    "nack, short": ({"op": "nack", "id": "a", "retry_after": None}, NackFrame("a")),
    "event": (
        {"op": "event", "id": "a", "event": "clicked", "at": 7, "action": "reply"},
        EventFrame("a", "clicked", 7, "reply"),
    ),
    "event, short": ({"op": "event", "id": "a", "event": "opened"}, EventFrame("a", "opened")),
    "send": (
        {"op": "send", "id": "r", "data": {"n": [1, {"x": None}]}},
        SendFrame("r", {"n": [1, {"x": None}]}),
    ),
    "ping": ({"op": "ping"}, Ping()),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_read(dialect: Dialect, write: Write, name: str) -> None:
    frame, expected = FRAMES[name]
    assert dialect.decode(write(frame)) == expected


@pytest.mark.parametrize("name", FRAMES)
def test_unknown_keys_are_ignored(dialect: Dialect, write: Write, name: str) -> None:
    frame, expected = FRAMES[name]
    news = {"from_the_future": {"deep": [1, 2.5, None, "ü"]}, "ops": True}
    assert dialect.decode(write({**news, **frame})) == expected
    assert dialect.decode(write({**frame, **news})) == expected


BAD = [
    ({"op": "connect"}, ""),
    ({"op": "connect", "credential": 5}, ""),
    ({"op": "connect", "credential": "c" * 257}, ""),
    ({"op": "connect", "credential": "c", "token": "t" * 257}, ""),
    ({"op": "connect", "credential": "c", "heartbeat": "60"}, ""),
    ({"op": "ack"}, ""),
    ({"op": "ack", "ids": "a"}, ""),
    ({"op": "ack", "ids": ["a", 5]}, ""),
    ({"op": "ack", "ids": [""]}, ""),
    ({"op": "ack", "ids": ["a" * 65]}, ""),
    ({"op": "ack", "ids": ["a"] * 1001}, ""),
    ({"op": "nack"}, ""),
    ({"op": "nack", "id": "m", "retry_after": "5"}, "m"),
    ({"op": "nack", "id": "m", "reason": None}, "m"),
    ({"op": "nack", "id": 5}, ""),
    ({"op": "event", "id": "m", "event": "eaten"}, "m"),
    ({"op": "event", "id": "m"}, "m"),
    ({"op": "event", "id": "m", "event": "opened", "at": 1.5}, "m"),
    ({"op": "send", "id": "r"}, "r"),
    ({"op": "send", "id": "r", "data": []}, "r"),
    ({"op": "send", "id": "r", "data": None, "ref": "other"}, "other"),
    ({"op": "send", "id": "", "data": {}}, ""),
    ({"op": "send", "id": "r" * 129, "data": {}}, "r" * 128),
    ({"op": ""}, ""),
    ({"op": 5}, ""),
    ({"op": None, "id": "x"}, ""),
    ({}, ""),
    ([], ""),
    ([["op", "ping"]], ""),
    ("ping", ""),
    (None, ""),
    (1, ""),
]


@pytest.mark.parametrize(("frame", "ref"), BAD)
def test_what_is_wrong_is_refused(dialect: Dialect, write: Write, frame: object, ref: str) -> None:
    assert refusal(dialect, write(frame)) == ("INVALID_ARGUMENT", ref)


@pytest.mark.parametrize("op", ["subscribed", "Ping", "ping ", "welcome", "x" * 1000, "ü"])
def test_an_op_that_the_server_does_not_know_is_told(
    dialect: Dialect, write: Write, op: str
) -> None:
    assert refusal(dialect, write({"op": op, "topics": ["a"]})) == ("UNIMPLEMENTED", "")
    assert refusal(dialect, write({"op": op, "id": "i"})) == ("UNIMPLEMENTED", "i")
    assert refusal(dialect, write({"op": op, "id": "i", "ref": "r"})) == ("UNIMPLEMENTED", "r")


def test_an_unknown_op_is_told_whatever_else_the_frame_holds(
    dialect: Dialect, write: Write
) -> None:
    assert refusal(dialect, write({"op": "new", "ref": 7, "id": [1]})) == ("UNIMPLEMENTED", "")
    assert refusal(dialect, write({"op": "new", "ref": 7, "id": "i"})) == ("UNIMPLEMENTED", "i")


def test_the_developer_is_told_which_key_is_wrong(dialect: Dialect, write: Write) -> None:
    for frame, key in (({"op": "nack", "id": 5}, "$.id"), ({"op": "ack", "ids": [5]}, "$.ids")):
        with pytest.raises(BadFrameError, match=key.replace("$", r"\$")):
            dialect.decode(write(frame))


@pytest.mark.parametrize("depth", [10, 500, 900, *range(950, 1001, 5), 3_000, 100_000])
@pytest.mark.parametrize("key", ["data", "unknown"])
def test_deep_nesting_is_read_or_refused(dialect: Dialect, depth: int, key: str) -> None:
    payload: bytes | str
    if dialect.subprotocol == wire.SUBPROTOCOL_JSON:
        deep = "[" * depth + "]" * depth
        payload = f'{{"op":"send","id":"r","data":{{}},"{key}":{{"a":{deep}}}}}'
    else:
        head = {"op": "send", "id": "r", "data": {}, key: {}}
        packed = b"".join(msgpack.packb(part) for pair in list(head.items())[:2] for part in pair)
        packed += msgpack.packb("data") + b"\x80" + msgpack.packb(key) + b"\x81\xa1a"
        payload = b"\x84" + packed + b"\x91" * depth + b"\x00"
    try:
        frame = dialect.decode(payload)
    except BadFrameError as error:
        assert error.code == "INVALID_ARGUMENT"  # noqa: PT017 - either is right
    else:
        assert isinstance(frame, SendFrame)


@pytest.mark.slow
@given(frame=st.dictionaries(st.sampled_from(["op", "id", "ids", "data", "at"]) | _texts, _plain))
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_any_map_is_read_or_refused(name: str, frame: dict[str, object]) -> None:
    _read_or_refuse(DIALECTS[name], WRITERS[name](frame))


@pytest.mark.slow
@given(
    op=st.sampled_from(["connect", "ack", "nack", "event", "send", "ping", "other"]),
    rest=st.fixed_dictionaries(
        {},
        optional={
            "id": _plain | _ids,
            "ref": _plain,
            "ids": _plain | st.lists(_ids | _plain, max_size=5),
            "data": _plain,
            "credential": _plain,
            "heartbeat": _plain | st.floats(allow_nan=False, allow_infinity=False),
            "retry_after": _plain,
            "event": _plain | st.just("opened"),
            "at": _plain | st.integers(-(2**63), 2**64 - 1),
            "action": _plain,
        },
    ),
)
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_any_frame_is_read_or_refused(name: str, op: str, rest: dict[str, object]) -> None:
    _read_or_refuse(DIALECTS[name], WRITERS[name]({"op": op, **rest}))


@given(payload=st.binary(max_size=60), head=st.sampled_from(sorted(FRAMES)), cut=st.integers(0, 80))
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_any_bytes_are_read_or_refused(name: str, payload: bytes, head: str, cut: int) -> None:
    whole = WRITERS[name](FRAMES[head][0])
    data = (whole.encode() if isinstance(whole, str) else whole)[:cut] + payload
    text = isinstance(whole, str)
    # The frame reader has made sure of UTF-8 before a text comes here.
    _read_or_refuse(DIALECTS[name], data.decode(errors="replace") if text else data)


def _read_or_refuse(dialect: Dialect, payload: bytes | str) -> None:
    refused: BadFrameError | None = None
    try:
        frame = dialect.decode(payload)
    except BadFrameError as error:
        refused = error
    else:
        assert isinstance(frame, Connect | AckFrame | NackFrame | EventFrame | SendFrame | Ping)
    if refused is not None:
        assert refused.code in {"INVALID_ARGUMENT", "UNIMPLEMENTED"}
        assert len(refused.message) <= 200
        assert len(refused.ref) <= 128
        # Whatever is said of it can be written.
        dialect.encode(Error(refused.code, refused.message, refused.ref))


def test_the_wrong_type_of_message_is_an_error_of_its_own(dialect: Dialect, write: Write) -> None:
    payload = write({"op": "ping"})
    other = payload.encode() if isinstance(payload, str) else "ping"
    with pytest.raises(WrongTypeError, match="messages"):
        dialect.decode(other)


# To the device.


_server_frames: st.SearchStrategy[ServerFrame] = st.one_of(
    st.builds(
        Welcome,
        session=_texts,
        device_id=_texts,
        heartbeat=st.floats(30, 900),
        pending=st.integers(0, 1000),
        time=st.integers(0, 2**45),
    ),
    st.builds(Dropped, count=st.integers(1, 2**40)),
    st.builds(Goaway, reason=_texts, reconnect_after=st.floats(0, 900)),
    st.builds(TokenFrame, token=_texts),
    st.builds(Ok, ref=_texts),
    st.builds(Pong),
    st.builds(Error, code=_texts, message=_texts, ref=_texts),
)


@given(frame=_server_frames)
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_sdk_reads_what_is_written(name: str, frame: ServerFrame) -> None:
    read = wire.parse(wire.decode(DIALECTS[name].encode(frame)))
    assert type(read).__name__ == type(frame).__name__
    for field in type(frame).__struct_fields__:
        assert getattr(read, field) == getattr(frame, field)


def test_an_error_without_a_ref_has_no_such_key(dialect: Dialect) -> None:
    assert wire.decode(dialect.encode(Error("C", "m"))) == {
        "op": "error",
        "code": "C",
        "message": "m",
    }


_messages = st.fixed_dictionaries(
    {
        "op": st.just("message"),
        "id": _ids,
        "sent_at": st.integers(0, 2**45),
        "expires_at": st.integers(0, 2**45),
        "priority": st.sampled_from(["critical", "high", "normal", "low"]),
    },
    optional={
        "topic": _texts,
        "collapse_key": _texts,
        "notification": st.dictionaries(st.sampled_from(["title", "body", "image"]), _texts),
        "data": st.dictionaries(_texts, _texts, max_size=5),
    },
)


@given(message=_messages)
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_sdk_reads_a_stored_message(name: str, message: dict[str, object]) -> None:
    assert wire.decode(DIALECTS[name].message(wire.encode(message))) == message
