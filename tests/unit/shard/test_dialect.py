"""What a client's developer is told of a frame that was not understood."""

import pytest

from gateway.shard.dialect import BadFrameError, Envelope, complain

WHY = ValueError("Expected `str`, got `int` - at `$.id`")


def told(envelope: Envelope | None, why: Exception = WHY) -> tuple[str, str, str]:
    error = complain(envelope, why)
    assert isinstance(error, BadFrameError)
    assert str(error) == error.message
    return error.code, error.message, error.ref


def test_what_is_no_map_with_an_op_is_told_what_a_frame_is() -> None:
    assert told(None) == ("INVALID_ARGUMENT", "A frame is one map with `op`.", "")


@pytest.mark.parametrize(
    "op", ["connect", "ack", "nack", "event", "send", "subscribe", "unsubscribe", "ping", ""]
)
def test_a_known_op_is_told_what_is_wrong_with_it(op: str) -> None:
    assert told(Envelope(op=op, id="i")) == ("INVALID_ARGUMENT", str(WHY), "i")


def test_an_unknown_op_is_not_called_wrong() -> None:
    code, message, ref = told(Envelope(op="follow", ref="r", id="i"))
    assert (code, ref) == ("UNIMPLEMENTED", "r")
    assert "`op`" in message


def test_a_ref_that_is_no_text_gives_way_to_the_id() -> None:
    assert told(Envelope(op="nack", ref=7, id="i"))[2] == "i"
    assert told(Envelope(op="nack", ref=7, id=["i"]))[2] == ""


def test_what_is_told_is_bounded() -> None:
    _, message, ref = told(Envelope(op="nack", id="i" * 1000), ValueError("x" * 1000))
    assert len(message) == 200
    assert len(ref) == 128
