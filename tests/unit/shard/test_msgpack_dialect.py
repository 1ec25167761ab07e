"""The msgpack dialect: what msgpack alone can get wrong, and stored frames untouched."""

import datetime as dt
import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shard.dialect import (
    AckFrame,
    BadFrameError,
    Connect,
    NackFrame,
    Ok,
    Ping,
    SendFrame,
    WrongTypeError,
)
from gateway.shard.dialects.msgpack import DIALECT


def error(payload: bytes) -> BadFrameError:
    with pytest.raises(BadFrameError) as caught:
        DIALECT.decode(payload)
    return caught.value


def upstream(value: bytes) -> bytes:
    """A `send` whose data holds one value, given in msgpack."""
    head = b"\x83" + b"".join(map(msgpack.packb, ("op", "send", "id", "r", "data")))
    return head + b"\x81\xa1a" + value


def test_binary_is_read() -> None:
    assert DIALECT.subprotocol == "pushwire.v1.msgpack"
    assert DIALECT.decode(msgpack.packb({"op": "ack", "ids": ["aü"]})) == AckFrame(["aü"])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x81\xa2op",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        msgpack.packb({"op": "ping"}) + b"\x00",
        msgpack.packb({"op": "ping"})[:-1],
        msgpack.packb({b"op": b"ping"}),
        msgpack.packb({1: 2}),
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
    ],
)
def test_what_is_not_one_map_is_refused(payload: bytes) -> None:
    assert error(payload).code == "INVALID_ARGUMENT"


BAD = b"\xa2\xc3\x28"  # an overlong start without its continuation


@pytest.mark.parametrize(
    ("payload", "ref"),
    [
        (b"\x81\xa2op" + BAD, ""),
        (b"\x82\xa2op\xa4nack\xa2id" + BAD, ""),
        (b"\x82\xa2op\xa3ack\xa3ids\x91" + BAD, ""),
        (upstream(BAD), "r"),
        (upstream(b"\x81" + BAD + b"\xc0"), "r"),
    ],
)
def test_text_that_is_not_utf8_is_refused(payload: bytes, ref: str) -> None:
    refused = error(payload)
    assert (refused.code, refused.ref) == ("INVALID_ARGUMENT", ref)


def test_a_key_that_is_not_utf8_is_an_unknown_key() -> None:
    assert DIALECT.decode(b"\x82" + BAD + b"\xc0\xa2op\xa4ping") == Ping()


@pytest.mark.parametrize("value", [b"\x81\x80\x01", b"\x81\x91\x80\x01", b"\x81\xd4\x05\x00\x01"])
def test_a_key_that_no_map_can_have_is_refused(value: bytes) -> None:
    refused = error(upstream(value))
    assert (refused.code, refused.ref) == ("INVALID_ARGUMENT", "r")


def test_an_unknown_op_is_told_with_its_ref() -> None:
    refused = error(msgpack.packb({"op": "follow", "topics": ["a"], "ref": "r1"}))
    assert (refused.code, refused.ref) == ("UNIMPLEMENTED", "r1")


def test_timestamps_are_read_and_those_out_of_range_refused() -> None:
    epoch = dt.datetime.fromtimestamp(0, dt.UTC)
    assert DIALECT.decode(upstream(b"\xd6\xff" + bytes(4))) == SendFrame("r", {"a": epoch})
    assert error(upstream(b"\xd7\xff" + b"\xff" * 8)).ref == "r"
    assert error(upstream(b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7)).ref == "r"


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 2**64 - 1, -(2**63)])
def test_numbers_that_json_does_not_have_are_read(number: float) -> None:
    connect = DIALECT.decode(
        msgpack.packb({"op": "connect", "credential": "c", "heartbeat": number})
    )
    nack = DIALECT.decode(msgpack.packb({"op": "nack", "id": "m", "retry_after": number}))
    assert isinstance(connect, Connect)
    assert isinstance(nack, NackFrame)
    assert connect.heartbeat == pytest.approx(number, nan_ok=True)
    assert nack.retry_after == pytest.approx(number, nan_ok=True)


def test_text_is_not_taken() -> None:
    with pytest.raises(WrongTypeError, match="binary messages"):
        DIALECT.decode('{"op":"ping"}')


def test_frames_are_written_as_msgpack() -> None:
    written = DIALECT.encode(Ok("ü"))
    assert isinstance(written, bytes)
    assert msgpack.unpackb(written) == {"op": "ok", "ref": "ü"}


@given(st.binary())
def test_the_bytes_of_a_stored_frame_go_out_unchanged(stored: bytes) -> None:
    assert DIALECT.message(stored) is stored
