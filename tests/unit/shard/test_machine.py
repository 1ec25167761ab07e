"""The life of a session: connecting, being told things, going away."""

import msgpack
import pytest

from gateway.shard.dialects import discover
from gateway.shard.events import (
    MAX_FETCH,
    Acked,
    Attach,
    Close,
    Detach,
    Engaged,
    Nacked,
    Sent,
    SessionError,
    State,
)
from gateway.shard.session import Session
from gateway.shard.session.machine import MAX_HEARTBEAT_MS, MIN_HEARTBEAT_MS
from router.model.hint import Displace, Hint, Readdress, Unregister, Wake
from router.model.ids import DeviceId, Token, partition_of, secret_hash
from router.model.mailbox import Ack, Attached, AttachResult
from router.model.receipt import Event
from sdk_client import wire
from tests.unit.shard.driver import (
    CREDENTIAL,
    DEVICE,
    EPOCH,
    NONCE,
    SHARD,
    START_MS,
    Lead,
    closed,
    fetch,
    frames,
    message,
    of,
    only,
    sent,
    window,
)

TOKEN = Token("eu", partition_of(DEVICE), DEVICE, NONCE)


@pytest.fixture
def live() -> Lead:
    return Lead().live()


# Connecting.


def test_a_connect_frame_asks_the_store_for_the_device() -> None:
    lead = Lead()
    attach = lead.connect(sdk="py/1", app_version="2.0")
    assert attach == Attach(DEVICE, secret_hash(CREDENTIAL), 64, "py/1", "2.0")
    assert lead.session.state is State.ATTACHING
    assert lead.session.device == DEVICE


def test_no_attach_asks_for_more_than_a_read_may_bring() -> None:
    assert Lead(window=1000).connect().limit == MAX_FETCH


def test_a_welcome_tells_what_the_device_needs() -> None:
    lead = Lead()
    lead.connect()
    actions = lead.attached(pending=3)
    assert frames(actions) == [
        {
            "op": "welcome",
            "session": f"{SHARD}-{EPOCH}",
            "device_id": DEVICE,
            "heartbeat": 240.0,
            "pending": 3,
            "time": START_MS,
        }
    ]
    assert lead.session.state is State.LIVE
    assert lead.session.epoch == EPOCH


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (60, 60),
        (1, 30),
        (0.001, 30),
        (100_000, 900),
        (1e30, 900),
        (0, 240),
        (-5, 240),
        (45.5, 45.5),
    ],
)
def test_a_heartbeat_is_granted_within_bounds(asked: float, given: float) -> None:
    lead = Lead()
    lead.connect(heartbeat=asked)
    (welcome,) = frames(lead.attached())
    assert welcome["heartbeat"] == given
    assert MIN_HEARTBEAT_MS <= given * 1000 <= MAX_HEARTBEAT_MS


@pytest.mark.parametrize("asked", [float("nan"), float("inf")])
def test_a_heartbeat_that_is_no_number_is_granted_too(asked: float) -> None:
    lead = Lead()
    session = Session(discover()[wire.SUBPROTOCOL_MSGPACK], lead.limits, lead.now_ms)
    connect = {"op": "connect", "credential": CREDENTIAL, "heartbeat": asked}
    only(Attach, session.on_message(msgpack.packb(connect), lead.now_ms))


@pytest.mark.parametrize("credential", ["", "x", f"{DEVICE}.short", f"{DEVICE}.{'s' * 33}", TOKEN])
def test_what_cannot_be_a_credential_ends_the_session(credential: object) -> None:
    lead = Lead()
    assert closed(lead.gets(op="connect", credential=str(credential))) == 4001
    assert lead.session.state is State.CLOSED


@pytest.mark.parametrize(
    ("result", "code"), [(AttachResult.BAD_CREDENTIAL, 4001), (AttachResult.UNREGISTERED, 4003)]
)
def test_a_device_that_the_store_refuses_is_told(result: AttachResult, code: int) -> None:
    lead = Lead()
    lead.connect()
    assert closed(lead.session.on_attached(Attached(result), lead.now_ms)) == code
    assert lead.session.on_closed(lead.now_ms) == ()


def test_without_a_store_the_device_is_told_to_try_again() -> None:
    lead = Lead()
    lead.connect()
    assert closed(lead.away()) == 1013


def test_a_device_that_says_nothing_is_told_so() -> None:
    lead = Lead()
    assert lead.later(9_999) == []
    assert closed(lead.later(1)) == 4008


def test_a_store_that_says_nothing_is_not_waited_for() -> None:
    lead = Lead()
    lead.later(9_999)
    lead.connect()
    assert lead.later(9_999) == []
    assert closed(lead.later(1)) == 1013


@pytest.mark.parametrize(
    "payload",
    ['{"op":"ping"}', '{"op":"ack","ids":[]}', '{"op":"subscribe"}', "{}", "nonsense"],
)
def test_the_first_frame_must_be_connect(payload: str) -> None:
    lead = Lead()
    assert closed(lead.session.on_message(payload, lead.now_ms)) == 1008


def test_a_second_connect_ends_the_session(live: Lead) -> None:
    waiting = Lead()
    waiting.connect()
    for lead in (waiting, live):
        assert closed(lead.gets(op="connect", credential=CREDENTIAL)) == 1008


def test_frames_before_the_welcome_are_refused_and_a_ping_is_answered() -> None:
    lead = Lead()
    lead.connect()
    assert frames(lead.gets(op="ping")) == [{"op": "pong"}]
    for extra in ({"op": "ack", "ids": [message(1)]}, {"op": "send", "id": "r", "data": {}}):
        (error,) = frames(lead.gets(**extra))
        assert error["code"] == "FAILED_PRECONDITION"
    assert lead.session.state is State.ATTACHING


def test_the_wrong_type_of_message_ends_the_session() -> None:
    lead = Lead()
    assert closed(lead.session.on_message(b"{}", lead.now_ms)) == 1003


# The device's address.


def test_a_device_that_knows_its_token_is_not_told() -> None:
    lead = Lead()
    lead.connect(token=str(TOKEN))
    assert [frame["op"] for frame in frames(lead.attached())] == ["welcome"]


@pytest.mark.parametrize("text", ["", "nonsense", f"{TOKEN}x"])
def test_what_cannot_be_a_token_is_ignored(text: str) -> None:
    lead = Lead()
    lead.connect(token=text)
    assert [frame["op"] for frame in frames(lead.attached())] == ["welcome"]


def test_an_outdated_token_is_replaced() -> None:
    lead = Lead()
    lead.connect(token=str(Token("eu", TOKEN.partition, DEVICE, "o" * 16)))
    welcome, told = frames(lead.attached())
    assert welcome["op"] == "welcome"
    assert told == {"op": "token", "token": str(TOKEN)}


def test_whatever_token_the_device_names_it_is_told_one_that_leads_to_it() -> None:
    lead = Lead()
    other = DeviceId("e" * 16)
    assert partition_of(other) != partition_of(DEVICE)
    lead.connect(token=str(Token("eu", partition_of(other), other, "o" * 16)))
    assert frames(lead.attached())[1] == {"op": "token", "token": str(TOKEN)}


def test_a_rotated_token_is_told_at_once(live: Lead) -> None:
    actions = live.session.on_hint(Readdress(DEVICE, EPOCH, "new"), live.now_ms)
    assert frames(actions) == [{"op": "token", "token": "new"}]


# Displacement.


@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
def test_a_newer_session_displaces_this_one_which_leaves_the_route_alone(epoch: int) -> None:
    lead = Lead().live()
    assert closed(lead.session.on_hint(Displace(DEVICE, epoch), lead.now_ms)) == 4002
    assert lead.session.on_closed(lead.now_ms) == ()


def test_an_unregistered_device_is_told_and_has_no_route_to_give_up(live: Lead) -> None:
    assert closed(live.session.on_hint(Unregister(DEVICE, EPOCH), live.now_ms)) == 4003
    assert live.session.on_closed(live.now_ms) == ()


def test_a_read_of_an_epoch_that_the_store_does_not_know_ends_the_session(live: Lead) -> None:
    fetch(live.hint(2))
    assert closed(live.fetched(None)) == 1013
    assert live.session.on_closed(live.now_ms) == ()


@pytest.mark.parametrize("epoch", [EPOCH - 1, 0])
def test_hints_for_an_older_session_change_nothing(live: Lead, epoch: int) -> None:
    hints: list[Hint] = [
        Wake(DEVICE, epoch),
        Displace(DEVICE, epoch),
        Unregister(DEVICE, epoch),
        Readdress(DEVICE, epoch, "t"),
    ]
    for hint in hints:
        assert not live.session.on_hint(hint, live.now_ms)
    assert not live.hint(1, epoch=epoch)
    assert live.session.state is State.LIVE
    assert sent(live.hint(1)) == [1]


def test_hints_for_a_newer_session_are_not_for_this_one(live: Lead) -> None:
    hints: list[Hint] = [Wake(DEVICE, EPOCH + 1), Unregister(DEVICE, EPOCH + 1)]
    for hint in hints:
        assert not live.session.on_hint(hint, live.now_ms)
    assert not live.hint(1, epoch=EPOCH + 1)
    assert live.session.state is State.LIVE


def test_hints_before_the_welcome_change_nothing() -> None:
    lead = Lead()
    assert not lead.hint(1)
    lead.connect()
    assert not lead.hint(1)
    assert lead.session.state is State.ATTACHING


# The end.


def test_an_idle_device_is_given_up_after_one_and_a_half_heartbeats() -> None:
    lead = Lead()
    lead.connect(heartbeat=30)
    lead.attached()
    assert lead.later(44_999) == []
    close = only(Close, lead.later(1))
    assert (int(close.code), close.reason) == (1001, "idle")


def test_any_sign_of_life_keeps_the_session() -> None:
    lead = Lead()
    lead.connect(heartbeat=30)
    lead.attached()
    for _ in range(3):
        lead.later(44_000)
        lead.gets(op="ping")
        lead.later(44_000)
        lead.session.on_alive(lead.now_ms)
    assert closed(lead.later(45_000)) == 1001


def test_a_clock_that_jumps_makes_nobody_idle(live: Lead) -> None:
    live.session.on_clock(10**9)
    live.now_ms += 10**9
    assert live.later(359_999) == []
    assert closed(live.later(1)) == 1001


def test_a_session_that_ends_gives_up_its_route(live: Lead) -> None:
    assert live.session.on_closed(live.now_ms) == (Detach(),)
    assert live.session.state is State.CLOSED


def test_a_session_that_was_never_attached_has_no_route() -> None:
    lead = Lead()
    lead.connect()
    assert lead.session.on_closed(lead.now_ms) == ()


def test_a_closed_session_does_nothing_more(live: Lead) -> None:
    fetch(live.hint(2))
    live.gets(op="connect", credential=CREDENTIAL)
    session, now_ms = live.session, live.now_ms
    assert session.state is State.CLOSED
    inputs = [
        session.on_message('{"op":"ping"}', now_ms),
        session.on_message(b"wrong", now_ms),
        live.attached(),
        live.away(),
        live.fetched(window(1, 2)),
        live.fetched(None),
        live.hint(1),
        session.on_hint(Displace(DEVICE, EPOCH), now_ms),
        session.on_done("r", None, now_ms),
        live.writable(True),
        session.on_timer(now_ms + 10**9),
        session.on_goaway("shutdown", 1.0, now_ms),
    ]
    assert not any(inputs)
    assert session.on_closed(now_ms) == (Detach(),)


def test_a_device_is_sent_away_and_served_until_it_goes(live: Lead) -> None:
    goaway = live.session.on_goaway("shutdown", 2.5, live.now_ms)
    assert frames(goaway) == [{"op": "goaway", "reason": "shutdown", "reconnect_after": 2.5}]
    assert live.session.state is State.DRAINING
    assert not live.session.on_goaway("shutdown", 2.5, live.now_ms)
    assert sent(live.hint(1)) == [1]
    assert of(Acked, live.ack(1))
    assert frames(live.gets(op="ping")) == [{"op": "pong"}]
    assert live.session.state is State.DRAINING
    assert live.session.on_closed(live.now_ms) == (Detach(),)


@pytest.mark.parametrize("connected", [False, True])
def test_a_device_that_is_not_yet_welcome_is_closed_instead(connected: bool) -> None:
    lead = Lead()
    if connected:
        lead.connect()
    close = only(Close, lead.session.on_goaway("shutdown", 2.5, lead.now_ms))
    assert (int(close.code), close.reason) == (1001, "shutdown")


def test_an_early_timer_changes_nothing(live: Lead) -> None:
    assert not live.session.on_timer(live.session.deadline_ms - 1)


def test_answers_that_nobody_asked_for_are_a_defect_of_the_shard(live: Lead) -> None:
    lead = Lead()
    now_ms = lead.now_ms
    for ask in (lead.attached, lead.away):
        with pytest.raises(SessionError, match="in state CONNECTING"):
            ask()
    with pytest.raises(SessionError, match="stored in state CONNECTING"):
        lead.session.on_done("r", None, now_ms)
    with pytest.raises(SessionError, match="fetched in state CONNECTING"):
        lead.fetched(window(1))
    with pytest.raises(SessionError, match="nothing was fetched"):
        live.fetched(window(1))
    with pytest.raises(SessionError, match="attached in state LIVE"):
        live.attached()


# A day in the life.


def test_a_whole_life(live: Lead) -> None:
    assert sent(live.hint(1)) == [1]
    assert sent(live.hint(2)) == [2]
    marked = only(Sent, live.later(1_000))
    assert marked == Sent((Ack(message(1), 1, START_MS), Ack(message(2), 2, START_MS)))
    assert live.ack(1) == [Acked((Ack(message(1), 1, 0),))]
    (nacked,) = live.nack(2, reason="busy", retry_after=30)
    assert nacked == Nacked(message(2), 2, "busy", live.now_ms + 30_000)
    assert fetch(live.later(30_000)).after_seq == 1
    assert sent(live.fetched(window(2))) == [2]
    assert live.ack(2) == [Acked((Ack(message(2), 2, live.now_ms),))]
    engaged = only(Engaged, live.gets(op="event", id=message(2), event="opened"))
    assert engaged.event is Event.OPENED
    live.session.on_goaway("shutdown", 1.0, live.now_ms)
    assert live.session.on_closed(live.now_ms) == (Detach(),)
    assert (live.tally.deliveries, live.tally.redeliveries) == (3, 0)


def test_a_session_has_no_dict(live: Lead) -> None:
    assert not hasattr(live.session, "__dict__")
