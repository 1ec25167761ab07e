"""What is stored of a message for the bridges, beside its frame."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.model.ids import MessageId, TopicName
from router.model.message import Message, Notification, Platforms, Priority
from router.policy.bridge_part import pack, push_of, unpack
from router.policy.frame import message_frame

ID = MessageId("00l3v8abcdefghijklmnopqrstu")
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
DATA = st.none() | st.dictionaries(TEXT, TEXT, max_size=3)
NOTIFICATION = st.none() | st.builds(Notification, TEXT, TEXT, TEXT)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PART = st.none() | st.dictionaries(TEXT, JSON, max_size=3)
MESSAGE = st.builds(
    Message,
    token=st.just(""),
    notification=NOTIFICATION,
    data=DATA,
    collapse_key=TEXT,
    priority=st.sampled_from(Priority),
    label=TEXT,
    topic=st.none() | st.just(TopicName("news")),
    platforms=st.none()
    | st.builds(Platforms, NOTIFICATION, DATA, android=PART, webpush=PART, apns=PART),
)


@given(MESSAGE, st.integers(0, 2**45), st.integers(0, 2**31))
def test_a_stored_message_gives_the_push_of_the_accepted_one(
    message: Message, sent_ms: int, ttl_ms: int
) -> None:
    frame = message_frame(message, ID, sent_ms, sent_ms + ttl_ms)
    assert unpack(frame, pack(message)) == push_of(message, ID, sent_ms, sent_ms + ttl_ms)


def test_a_message_without_parts_of_its_own_costs_nothing() -> None:
    assert pack(Message(token="", notification=Notification("t"), data={"k": "v"})) == b""


def test_what_the_frame_says_is_not_said_again() -> None:
    shown, data = Notification("t" * 500), {"k": "v" * 500}
    part = pack(Message("", shown, data, platforms=Platforms(shown, data, apns={"headers": {}})))
    assert 0 < len(part) < 30


def test_what_android_overrides_in_the_frame_stays_common_for_the_others() -> None:
    common = Platforms(Notification("common"), {"k": "common"}, android={"data": {"k": "own"}})
    message = Message("", Notification("android"), {"k": "own"}, platforms=common)
    push = unpack(message_frame(message, ID, 1, 2), pack(message))
    assert push.notification == Notification("common")
    assert push.data == {"k": "common"}


def test_a_message_that_only_android_shows_is_not_shown_elsewhere() -> None:
    android: dict[str, object] = {"notification": {"title": "t"}}
    message = Message("", Notification("t"), platforms=Platforms(android=android))
    assert unpack(message_frame(message, ID, 1, 2), pack(message)).notification is None
