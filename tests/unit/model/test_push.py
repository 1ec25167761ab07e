"""What is left of a push."""

import uuid

import pytest

from router.model.ids import DeviceId, MessageId
from router.model.push import Push, push_uuid


@pytest.mark.parametrize(
    ("now_ms", "left_s"),
    [(-5_000, 11), (0, 11), (999, 10), (9_999, 1), (10_000, 1), (10_001, 0), (99_999, 0)],
)
def test_seconds_that_are_left_are_rounded_up(now_ms: int, left_s: int) -> None:
    assert Push(MessageId("m"), 0, 10_001).remaining_s(now_ms) == left_s


def test_now_or_never_has_no_time_left() -> None:
    push = Push(MessageId("m"), 5, 5)
    assert push.now_or_never
    assert push.remaining_s(0) == 0


def test_a_message_to_a_device_has_one_uuid() -> None:
    made = push_uuid(MessageId("m"), DeviceId("d"))
    parsed = uuid.UUID(made)
    assert (str(parsed), parsed.variant, parsed.version) == (made, uuid.RFC_4122, 8)
    assert made == push_uuid(MessageId("m"), DeviceId("d"))
    assert made != push_uuid(MessageId("m"), DeviceId("other"))
    assert made != push_uuid(MessageId("other"), DeviceId("d"))
