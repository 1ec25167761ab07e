"""Which messages the SDK's session delivers, acks and asks for again."""

import pytest

from sdk_client.events import (
    Disconnect,
    Report,
    Transmit,
)
from sdk_client.inbox import MAX_ACK_IDS
from sdk_client.options import Options
from tests.unit.sdk.driver import Lead, delivered, kinds, sent


def test_an_ack_follows_the_handler(connected: Lead) -> None:
    assert delivered(connected.push("m")) == ["m"]
    assert connected.session.holds("m")
    assert not connected.tick()
    assert not connected.session.on_handled("m", connected.now)
    assert connected.session.deadline <= connected.now
    assert sent(connected.tick()) == [{"op": "ack", "ids": ["m"]}]
    assert not connected.session.holds("m")
    assert not connected.session.on_handled("m", connected.now)
    assert not connected.tick()


def test_acks_of_one_moment_share_a_frame(connected: Lead) -> None:
    ids = [f"m{number}" for number in range(MAX_ACK_IDS + 3)]
    for message_id in ids:
        connected.push(message_id)
        connected.session.on_handled(message_id, connected.now)
    frames = sent(connected.tick())
    assert [frame["ids"] for frame in frames] == [ids[:MAX_ACK_IDS], ids[MAX_ACK_IDS:]]


def test_a_repeat_of_what_the_handler_has_is_ignored(connected: Lead) -> None:
    connected.push("m")
    assert not connected.push("m")
    connected.lost()
    connected.connect()
    assert not connected.push("m")
    connected.session.on_handled("m", connected.now)
    assert sent(connected.tick()) == [{"op": "ack", "ids": ["m"]}]


def test_a_repeat_of_what_was_handled_is_acked_again(connected: Lead) -> None:
    connected.push("m")
    connected.session.on_handled("m", connected.now)
    connected.tick()
    assert not connected.push("m")
    assert sent(connected.tick()) == [{"op": "ack", "ids": ["m"]}]


def test_seen_ids_outlive_the_session() -> None:
    lead = Lead(seen=["m"])
    lead.connect()
    assert not lead.push("m")
    assert sent(lead.tick()) == [{"op": "ack", "ids": ["m"]}]


def test_only_the_latest_ids_are_remembered() -> None:
    lead = Lead(Options(seen_limit=2), seen=["a", "b", "c"])
    lead.connect()
    assert delivered(lead.push("a")) == ["a"]
    assert not delivered(lead.push("b"))


def test_acks_wait_for_the_next_connection(connected: Lead) -> None:
    connected.push("m")
    connected.lost()
    connected.session.on_handled("m", connected.now)
    assert connected.session.deadline > connected.now
    assert sent(connected.connect()) == [{"op": "ack", "ids": ["m"]}]


def test_acks_that_wait_are_bounded() -> None:
    lead = Lead(Options(seen_limit=2))
    lead.connect()
    for message_id in "abc":
        lead.push(message_id)
    lead.lost()
    for message_id in "abc":
        lead.session.on_handled(message_id, lead.now)
    assert sent(lead.connect()) == [{"op": "ack", "ids": ["b", "c"]}]


def test_a_nack_brings_a_message_back(connected: Lead) -> None:
    connected.push("m")
    actions = connected.session.on_nacked("m", connected.now, reason="busy", retry_after_s=9)
    assert sent(actions) == [{"op": "nack", "id": "m", "reason": "busy", "retry_after": 9}]
    assert not connected.session.on_nacked("m", connected.now)
    assert not connected.session.on_handled("m", connected.now)
    connected.later(9)
    assert delivered(connected.push("m")) == ["m"]


def test_a_nack_may_leave_the_time_to_the_gateway(connected: Lead) -> None:
    connected.push("m")
    assert sent(connected.session.on_nacked("m", connected.now)) == [{"op": "nack", "id": "m"}]
    assert delivered(connected.push("m")) == ["m"]


def test_a_nack_that_was_lost_is_said_again(connected: Lead) -> None:
    connected.push("m")
    connected.lost()
    assert not connected.session.on_nacked("m", connected.now, reason="r", retry_after_s=9)
    connected.connect()
    left = 9 - 0.5
    frame = {"op": "nack", "id": "m", "reason": "r", "retry_after": pytest.approx(left)}
    assert sent(connected.push("m")) == [frame]
    assert sent(connected.push("m")) == [frame]
    connected.later(left)
    assert delivered(connected.push("m")) == ["m"]


def test_nacks_that_are_remembered_are_bounded() -> None:
    lead = Lead(Options(seen_limit=1))
    lead.connect()
    for message_id in "ab":
        lead.push(message_id)
        lead.session.on_nacked(message_id, lead.now, retry_after_s=9)
    assert delivered(lead.push("a")) == ["a"]
    assert not delivered(lead.push("b"))


def test_messages_without_room_come_again_in_order() -> None:
    lead = Lead(Options(max_unhandled=4))
    lead.connect()
    for message_id in "abcd":
        assert delivered(lead.push(message_id)) == [message_id]
    assert not lead.push("e")
    assert not lead.session.on_handled("a", lead.now)
    assert not lead.push("f"), "it would overtake e"
    actions = lead.session.on_handled("b", lead.now)
    assert kinds(actions) == [Transmit, Disconnect, Report]
    assert sent(actions) == [{"op": "ack", "ids": ["a", "b"]}]
    assert lead.session.deadline == lead.now
    lead.connect()
    assert [message for each in "cdef" for message in delivered(lead.push(each))] == ["e", "f"]
    assert lead.session.unhandled == 4


def test_room_that_comes_while_offline_asks_for_nothing() -> None:
    lead = Lead(Options(max_unhandled=2))
    lead.connect()
    for message_id in "abc":
        lead.push(message_id)
    lead.lost()
    assert not lead.session.on_handled("a", lead.now)
    assert not lead.session.on_nacked("b", lead.now)


def test_what_came_by_a_push_goes_to_nobody_and_is_acked_when_it_comes(connected: Lead) -> None:
    connected.session.on_pushed("m")
    assert not connected.tick()
    assert not connected.push("m")
    assert sent(connected.tick()) == [{"op": "ack", "ids": ["m"]}]


def test_a_push_of_what_the_handler_has_changes_nothing(connected: Lead) -> None:
    connected.push("m")
    connected.session.on_pushed("m")
    assert connected.session.holds("m")
    assert not connected.tick()
    connected.session.on_handled("m", connected.now)
    assert sent(connected.tick()) == [{"op": "ack", "ids": ["m"]}]


def test_a_push_takes_the_place_of_what_was_nacked(connected: Lead) -> None:
    connected.push("m")
    connected.session.on_nacked("m", connected.now, retry_after_s=60)
    connected.session.on_pushed("m")
    assert not connected.push("m")
    assert sent(connected.tick()) == [{"op": "ack", "ids": ["m"]}]
