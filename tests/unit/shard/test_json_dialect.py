"""The JSON dialect: what JSON alone can get wrong, and stored frames made readable."""

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shard.dialect import (
    AckFrame,
    BadFrameError,
    EventFrame,
    NackFrame,
    Ok,
    SendFrame,
    WrongTypeError,
)
from gateway.shard.dialects.json import DIALECT


def error(payload: str) -> BadFrameError:
    with pytest.raises(BadFrameError) as caught:
        DIALECT.decode(payload)
    return caught.value


def test_text_is_read() -> None:
    assert DIALECT.subprotocol == "pushwire.v1.json"
    assert DIALECT.decode(' {"ids" : ["a\\u00fc"], "op":"ack"}\n') == AckFrame(["aü"])


@pytest.mark.parametrize(
    "payload",
    [
        "",
        " ",
        "{",
        '{"op":"ping"',
        '{"op":"ping"}}',
        '{"op":"ping",}',
        "{'op':'ping'}",
        '{"op":ping}',
        '{"op":"pi\x00ng"}',
        '{"op":"send","id":"\\ud800","data":{}}',
        '{"op":"send","id":"r","data":{"n":NaN}}',
        '{"op":"send","id":"r","data":{"n":1e999}}',
        '{"op":"send","id":"r","data":{"n":1' + "0" * 5000 + "}}",
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_what_is_not_json_is_refused(payload: str) -> None:
    assert error(payload).code == "INVALID_ARGUMENT"


def test_the_last_of_two_equal_keys_counts() -> None:
    assert DIALECT.decode('{"op":"ack","ids":["a"],"ids":["b"]}') == AckFrame(["b"])


def test_an_unknown_op_is_told_with_its_ref() -> None:
    refused = error('{"op":"follow","topics":["a"],"ref":"r1"}')
    assert (refused.code, refused.ref) == ("UNIMPLEMENTED", "r1")


def test_numbers_beyond_64_bits_are_read() -> None:
    huge = 10**30
    assert DIALECT.decode(f'{{"op":"send","id":"r","data":{{"n":{huge}}}}}') == SendFrame(
        "r", {"n": huge}
    )
    assert DIALECT.decode(f'{{"op":"event","id":"m","event":"opened","at":{huge}}}') == EventFrame(
        "m", "opened", huge
    )
    assert DIALECT.decode(f'{{"op":"nack","id":"m","retry_after":{huge}}}') == NackFrame(
        "m", retry_after=1e30
    )


def test_binary_is_not_taken() -> None:
    with pytest.raises(WrongTypeError, match="text messages"):
        DIALECT.decode(b'{"op":"ping"}')


def test_frames_are_written_as_text_without_escapes() -> None:
    assert DIALECT.encode(Ok("ü")) == '{"op":"ok","ref":"ü"}'


_stored: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=5), _stored, max_size=5))
def test_a_stored_frame_is_transcoded(stored: dict[str, object]) -> None:
    text = DIALECT.message(msgpack.packb(stored))
    assert isinstance(text, str)
    assert json.loads(text) == stored
