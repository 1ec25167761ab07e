"""What a device says besides acks: engagement, messages to its app server, nonsense."""

import json

import msgpack
import pytest

from gateway.shard.dialects import discover
from gateway.shard.events import (
    MAX_FETCH,
    Acked,
    Engaged,
    Fetch,
    Nacked,
    Send,
    Sent,
    State,
    Upstream,
)
from gateway.shard.session import Session
from router.model.ids import DeviceId
from router.model.mailbox import Attached, AttachResult
from router.model.receipt import Event
from sdk_client import wire
from tests.unit.shard.driver import (
    CREDENTIAL,
    NONCE,
    START_MS,
    Lead,
    closed,
    fetch,
    frames,
    message,
    of,
    only,
    window,
)


@pytest.fixture
def live() -> Lead:
    return Lead().live()


# Engagement.


@pytest.mark.parametrize(
    ("at", "noted"), [(START_MS - 5, START_MS - 5), (None, START_MS), (0, START_MS)]
)
def test_an_engagement_is_passed_on(live: Lead, at: int | None, noted: int) -> None:
    told = live.gets(op="event", id=message(1), event="clicked", at=at, action="x" * 300)
    assert told == (Engaged(message(1), Event.CLICKED, noted, "x" * 200),)


def test_a_time_to_come_counts_as_now(live: Lead) -> None:
    told = live.gets(op="event", id=message(1), event="opened", at=live.now_ms + 1)
    assert only(Engaged, told).at_ms == live.now_ms


@pytest.mark.parametrize("text", ["nonsense", message(1, DeviceId("e" * 16))])
def test_an_engagement_with_a_message_of_another_device_is_refused(live: Lead, text: str) -> None:
    (error,) = frames(live.gets(op="event", id=text, event="opened"))
    assert (error["code"], error["ref"]) == ("INVALID_ARGUMENT", text)


# Done with, or not.


def test_an_ack_makes_room_for_what_waits_and_ends_the_message() -> None:
    live = Lead(window=1).live(window(1, head=2, more=True))
    acked, read = live.ack(1)
    assert isinstance(acked, Acked)
    assert read == Fetch(1, 1)
    assert not live.nack(1)


def test_a_nack_tells_that_the_message_was_sent_and_comes_back_to_it(live: Lead) -> None:
    live.hint(1)
    marked, nacked = live.nack(1, retry_after=2)
    assert isinstance(marked, Sent)
    assert isinstance(nacked, Nacked)
    assert fetch(live.later(2_000)) == Fetch(0, MAX_FETCH)


# Upstream.


def test_an_upstream_message_is_answered_once_it_is_stored(live: Lead) -> None:
    upstream = only(Upstream, live.gets(op="send", id="r1", data={"a": [1, None]}))
    assert (upstream.ref, json.loads(upstream.data)) == ("r1", {"a": [1, None]})
    assert not live.gets(op="send", id="r1", data={"a": "again"})
    assert frames(live.session.on_done("r1", None, live.now_ms)) == [{"op": "ok", "ref": "r1"}]
    assert of(Upstream, live.gets(op="send", id="r1", data={}))


def test_an_upstream_message_that_was_not_stored_is_told(live: Lead) -> None:
    live.gets(op="send", id="r1", data={})
    (error,) = frames(live.session.on_done("r1", "try again", live.now_ms))
    assert error == {"op": "error", "code": "UNAVAILABLE", "message": "try again", "ref": "r1"}


def test_upstream_messages_that_wait_are_capped() -> None:
    lead = Lead(max_upstream=2).live()
    assert of(Upstream, lead.gets(op="send", id="r1", data={}))
    assert of(Upstream, lead.gets(op="send", id="r2", data={}))
    (error,) = frames(lead.gets(op="send", id="r3", data={}))
    assert (error["code"], error["ref"]) == ("RESOURCE_EXHAUSTED", "r3")
    lead.session.on_done("r1", None, lead.now_ms)
    assert of(Upstream, lead.gets(op="send", id="r3", data={}))


def test_an_answer_to_nothing_does_no_harm(live: Lead) -> None:
    assert frames(live.session.on_done("r", None, live.now_ms)) == [{"op": "ok", "ref": "r"}]


def packed(lead: Lead, data: dict[object, object]) -> list[dict[str, object]]:
    """What a device that speaks msgpack is told of an upstream message."""
    session = Session(discover()[wire.SUBPROTOCOL_MSGPACK], lead.limits, lead.now_ms)
    session.on_message(msgpack.packb({"op": "connect", "credential": CREDENTIAL}), lead.now_ms)
    attached = Attached(AttachResult.ATTACHED, epoch=1, token_nonce=NONCE)
    session.on_attached(attached, lead.now_ms)
    frame = {"op": "send", "id": "r", "data": data}
    return frames(session.on_message(msgpack.packb(frame), lead.now_ms))


@pytest.mark.parametrize("value", [msgpack.ExtType(5, b"x"), {None: 1}, {True: 1}])
def test_what_json_cannot_hold_is_refused(live: Lead, value: object) -> None:
    (error,) = packed(live, {"a": value})
    assert (error["code"], error["ref"]) == ("INVALID_ARGUMENT", "r")


def test_nesting_that_can_be_read_but_not_written_is_refused(live: Lead) -> None:
    for depth in range(900, 1000):
        payload = f'{{"op":"send","id":"r{depth}","data":{{"a":{"[" * depth}{"]" * depth}}}}}'
        live.session._errors = 0
        (action,) = live.session.on_message(payload, live.now_ms)
        assert isinstance(action, Upstream | Send)
        live.session._upstream = None


# Bad frames.


def test_a_device_that_sends_nothing_but_bad_frames_is_disconnected() -> None:
    lead = Lead(max_errors=3).live()
    for _ in range(3):
        (error,) = frames(lead.gets(op="nack", id=5))
        assert error["code"] == "INVALID_ARGUMENT"
    actions = lead.gets(op="nack", id=5)
    assert [frame["op"] for frame in frames(actions)] == ["error"]
    assert closed(actions) == 1008


def test_an_unknown_op_is_answered_and_not_counted() -> None:
    lead = Lead(max_errors=1).live()
    for _ in range(10):
        (error,) = frames(lead.gets(op="follow", topics=["a"], ref="r"))
        assert (error["code"], error["ref"]) == ("UNIMPLEMENTED", "r")
    assert lead.session.state is State.LIVE


def test_before_the_welcome_bad_frames_are_counted_too() -> None:
    lead = Lead(max_errors=1)
    lead.connect()
    lead.gets(op="ack", ids=[])
    assert closed(lead.gets(op="ack", ids=[])) == 1008
