"""Frames in both encodings: whole, cut, mutated, of the wrong shape."""

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk_client import wire
from sdk_client.wire import (
    Dropped,
    Error,
    Goaway,
    MessageFrame,
    Notification,
    Ok,
    Pong,
    TokenFrame,
    Welcome,
    WireError,
    decode,
    parse,
)

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
FRAMES = st.dictionaries(st.text(), VALUES)
FULL = {
    "op": "message",
    "id": "m1",
    "sent_at": 1,
    "expires_at": 2,
    "priority": "high",
    "topic": "news",
    "collapse_key": "k",
    "notification": {"title": "T", "body": "B", "image": "I"},
    "data": {"a": "b"},
}


@given(FRAMES)
def test_both_encodings_come_back(frame: dict[str, object]) -> None:
    assert decode(wire.encode(frame)) == frame
    assert decode(wire.encode_json(frame)) == frame


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"op": "message", "id": "m"}, MessageFrame("m")),
        (
            FULL,
            MessageFrame("m1", 1, 2, "high", "news", "k", Notification("T", "B", "I"), {"a": "b"}),
        ),
        (
            {"op": "message", "id": "m", "notification": {}},
            MessageFrame("m", notification=Notification()),
        ),
        (
            {"op": "message", "id": "m", "topic": None, "data": None, "notification": None},
            MessageFrame("m"),
        ),
        (
            {"op": "welcome", "session": "s", "device_id": "d", "heartbeat": 60, "pending": 2},
            Welcome("s", "d", 60.0, 2, 0),
        ),
        ({"op": "dropped", "count": 3, "later": "key"}, Dropped(3)),
        ({"op": "goaway", "reason": "r", "reconnect_after": 1.5}, Goaway("r", 1.5)),
        ({"op": "goaway"}, Goaway("", 0.0)),
        ({"op": "token", "token": "t"}, TokenFrame("t")),
        ({"op": "ok", "ref": "r"}, Ok("r")),
        ({"op": "pong"}, Pong()),
        ({"op": "error", "code": "C", "message": "m", "ref": "r"}, Error("C", "m", "r")),
        ({"op": "error", "code": "C"}, Error("C", "")),
        ({"op": "of the future"}, None),
        ({}, None),
        ({"op": ["message"]}, None),
    ],
)
def test_parse(frame: dict[str, object], expected: object) -> None:
    assert parse(frame) == expected


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "message"},
        {"op": "message", "id": 1},
        {"op": "message", "id": "m", "sent_at": "now"},
        {"op": "message", "id": "m", "sent_at": True},
        {"op": "message", "id": "m", "notification": "text"},
        {"op": "message", "id": "m", "notification": {"title": 1}},
        {"op": "message", "id": "m", "data": []},
        {"op": "message", "id": "m", "data": {"a": 1}},
        {"op": "message", "id": "m", "priority": 1},
        {"op": "welcome", "heartbeat": float("inf")},
        {"op": "goaway", "reconnect_after": float("nan")},
        {"op": "goaway", "reconnect_after": True},
        {"op": "dropped"},
        {"op": "token"},
        {"op": "ok"},
        {"op": "error"},
    ],
)
def test_a_frame_of_the_wrong_shape_is_refused(frame: dict[str, object]) -> None:
    with pytest.raises(WireError):
        parse(frame)


NO_FRAMES: dict[str, bytes | str] = {
    "no bytes": b"",
    "no text": "",
    "a byte that msgpack never uses": b"\xc1",
    "a cut map": b"\x81\xa2op",
    "two maps": b"\x80\x80",
    "a list": msgpack.packb([1]),
    "a map with numbers for keys": msgpack.packb({1: "a"}),
    "bad UTF-8": b"\x81\xa1\xff\x01",
    "a JSON list": "[]",
    "JSON null": "null",
    "cut JSON": "{",
    "deep JSON": "[" * 100_000,
    "deep msgpack": b"\x91" * 100_000,
    "a huge number": "9" * 5_000,
}


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_no_frame_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        decode(NO_FRAMES[name])


@given(st.binary() | st.text(), st.integers(0, 40))
def test_garbage_never_breaks_the_reader(payload: bytes | str, cut: int) -> None:
    whole = wire.encode(FULL)
    for tried in (payload, whole[:cut], whole[:cut] + bytes([cut]) + whole[cut + 1 :]):
        try:
            parse(decode(tried))
        except WireError:
            continue


def test_json_is_compact_and_readable() -> None:
    assert wire.encode_json({"op": "ack", "ids": ["ä"]}) == '{"op":"ack","ids":["ä"]}'
    assert json.loads(wire.encode_json({"op": "ping"})) == {"op": "ping"}
