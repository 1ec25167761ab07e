"""The device's frame of a message."""

import pytest

from router.model.ids import MessageId, TopicName
from router.model.lane import LANE_OF, Lane
from router.model.message import Message, Notification, Priority
from router.policy.frame import lane_of_frame, message_frame, payload_bytes, shown
from sdk_client.wire import decode


def test_a_frame_holds_what_the_message_has_and_no_more() -> None:
    plain = Message(token="")
    assert decode(message_frame(plain, MessageId("m"), 1, 2)) == {
        "op": "message",
        "id": "m",
        "sent_at": 1,
        "expires_at": 2,
        "priority": "normal",
    }
    full = Message(
        token="",
        topic=TopicName("news"),
        notification=Notification(title="t"),
        data={"k": "v"},
        collapse_key="c",
        priority=Priority.CRITICAL,
    )
    assert decode(message_frame(full, MessageId("m"), 1, 2)) == {
        "op": "message",
        "id": "m",
        "sent_at": 1,
        "expires_at": 2,
        "priority": "critical",
        "topic": "news",
        "collapse_key": "c",
        "notification": {"title": "t"},
        "data": {"k": "v"},
    }


def test_half_of_a_character_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        message_frame(Message(token="", data={"k": "\ud800"}), MessageId("m"), 1, 2)


def test_the_payload_is_measured_as_json() -> None:
    assert payload_bytes(Message(token="")) == 0
    assert payload_bytes(Message(token="", data={"k": "v"})) == len('{"k":"v"}')
    shown_alone = Message(token="", notification=Notification(body="b"))
    assert payload_bytes(shown_alone) == len('{"body":"b"}')


def test_empty_parts_of_a_notification_are_left_out() -> None:
    assert shown(Notification("t", "", "i")) == {"title": "t", "image": "i"}


@pytest.mark.parametrize("priority", Priority)
def test_a_stored_frame_tells_its_lane(priority: Priority) -> None:
    message = Message(token="", priority=priority)
    assert lane_of_frame(message_frame(message, MessageId("m"), 1, 2)) is LANE_OF[priority]


def test_what_is_no_frame_goes_in_the_normal_lane() -> None:
    assert lane_of_frame(b"f") is Lane.NORMAL
    assert lane_of_frame(b"\x80") is Lane.NORMAL
