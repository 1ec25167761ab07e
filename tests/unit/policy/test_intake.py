"""What is fixed of a message when it is accepted."""

import pytest

from router.model.errors import ErrorCode, PushError
from router.model.ids import MessageId
from router.model.message import Message
from router.policy.frame import message_frame
from router.policy.intake import take_in

ID = MessageId("m")
NOW_MS = 1_000
DAY_MS = 24 * 3600 * 1000


def test_times_count_from_now_or_from_when_it_is_sent() -> None:
    at_once = Message(token="", ttl_ms=60)
    later = Message(token="", ttl_ms=60, send_at_ms=NOW_MS + 500)
    assert take_in(at_once, ID, NOW_MS) == (
        message_frame(at_once, ID, 1_000, 1_060),
        1_000,
        0,
        1_060,
    )
    assert take_in(later, ID, NOW_MS) == (
        message_frame(later, ID, 1_500, 1_560),
        1_500,
        1_500,
        1_560,
    )


@pytest.mark.parametrize("send_at_ms", [None, NOW_MS + 500])
def test_now_or_never_ends_when_it_is_accepted_for_the_store(send_at_ms: int | None) -> None:
    message = Message(token="", ttl_ms=0, send_at_ms=send_at_ms)
    assert take_in(message, ID, NOW_MS).expires_ms == NOW_MS


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message(token="", send_at_ms=NOW_MS + 28 * DAY_MS + 1), "send_at"),
        (Message(token="", data={"k": "\ud800"}), "message"),
        (Message(token="", data={"k": "v" * 4096}), "message"),
    ],
)
def test_what_cannot_be_stored_names_its_field(message: Message, field: str) -> None:
    with pytest.raises(PushError) as refused:
        take_in(message, ID, NOW_MS)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert field in refused.value.violations[0].field
    assert field in refused.value.message


def test_a_payload_that_is_small_enough_passes_however_large_its_frame_may_be() -> None:
    data = {"k": "v" * 4087}
    assert take_in(Message(token="", data=data), ID, NOW_MS).frame
