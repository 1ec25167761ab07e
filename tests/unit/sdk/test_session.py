"""Playbooks of the SDK's session: what happens, and what it asks for."""

import math

import pytest

from sdk_client import wire
from sdk_client.errors import (
    BadCredentialError,
    ClosedError,
    DisplacedError,
    QueueFullError,
    RequestError,
    UnregisteredError,
)
from sdk_client.events import (
    Complain,
    Connect,
    ConnectionState,
    Deliver,
    Disconnect,
    Lost,
    Readdress,
    Report,
    Settle,
    Stop,
    Transmit,
)
from sdk_client.options import Options
from sdk_client.session import MAX_PAUSE_S
from tests.unit.sdk.driver import HEARTBEAT_S, Lead, kinds, reported, sent

# Connecting.


def test_a_connection_from_its_start_to_the_welcome(lead: Lead) -> None:
    assert lead.session.deadline == math.inf
    assert kinds(lead.session.start(lead.now)) == [Report, Connect]
    assert sent(lead.session.on_open(lead.now)) == [
        {
            "op": "connect",
            "credential": "dev.secret",
            "sdk": "pushwire-python",
            "app_version": "1.2",
            "token": "old-token",
            "heartbeat": 60.0,
        }
    ]
    assert reported(lead.welcome()) == [ConnectionState.CONNECTED]
    assert not lead.welcome()
    assert not lead.session.start(lead.now)


def test_what_is_not_known_is_not_said() -> None:
    lead = Lead(Options(heartbeat_s=0))
    lead.session._identity.token = lead.session._identity.app_version = ""
    lead.session.start(lead.now)
    (frame,) = sent(lead.session.on_open(lead.now))
    assert frame.keys() == {"op", "credential", "sdk"}


def test_json_is_spoken_where_it_is_chosen() -> None:
    lead = Lead(Options(dialect="json"))
    lead.session.start(lead.now)
    (action,) = lead.session.on_open(lead.now)
    assert isinstance(action, Transmit)
    assert isinstance(action.payload, str)
    actions = lead.session.on_message('{"op":"welcome","heartbeat":30}', lead.now)
    assert reported(actions) == [ConnectionState.CONNECTED]


def test_without_a_welcome_the_socket_is_given_up(lead: Lead) -> None:
    lead.session.start(lead.now)
    lead.session.on_open(lead.now)
    assert not lead.later(14.9)
    actions = lead.later(0.1)
    assert kinds(actions) == [Disconnect, Report]
    assert isinstance(actions[0], Disconnect)
    assert actions[0].abort


def test_inputs_that_come_too_late_change_nothing(lead: Lead) -> None:
    assert not lead.session.on_open(lead.now)
    assert not lead.lost()
    assert not lead.push("m")
    assert not lead.tick()
    lead.session.start(lead.now)
    assert not lead.push("m"), "before the welcome"


# Reconnecting.


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1008, 1013, 4004, 4008, 4999])
def test_most_ends_are_followed_by_another_try(connected: Lead, code: int | None) -> None:
    actions = connected.lost(code, "why")
    assert reported(actions) == [ConnectionState.WAITING]
    assert connected.session.deadline == connected.now + 0.5
    assert not connected.later(0.4)
    assert Connect() in connected.later(0.1)


@pytest.mark.parametrize(
    ("code", "error"),
    [(4001, BadCredentialError), (4002, DisplacedError), (4003, UnregisteredError)],
)
def test_some_ends_are_for_good(connected: Lead, code: int, error: type[Exception]) -> None:
    connected.session.request("r", {"op": "send"}, connected.now)
    actions = connected.lost(code)
    assert kinds(actions) == [Settle, Report, Stop]
    assert isinstance(actions[0], Settle)
    assert isinstance(actions[0].error, error)
    assert isinstance(actions[2], Stop)
    assert isinstance(actions[2].error, error)
    assert connected.session.deadline == math.inf
    assert not connected.later(1000)
    assert not connected.session.start(connected.now)
    (late,) = connected.session.request("s", {"op": "send"}, connected.now)
    assert isinstance(late, Settle)
    assert isinstance(late.error, error)
    assert not connected.session.close(connected.now)


def test_the_wait_grows_until_a_connection_lasts(lead: Lead) -> None:
    waits = []
    for _ in range(4):
        lead.connect()
        lead.lost()
        waits.append(lead.session.deadline - lead.now)
    assert waits == [0.5, 1, 2, 4]
    lead.connect()
    lead.now += lead.session.options.lasting_s
    lead.lost()
    assert lead.session.deadline - lead.now == 0.5


def test_a_refused_handshake_may_say_when_to_come_again(lead: Lead) -> None:
    lead.session.start(lead.now)
    lead.session.on_lost(None, "refused with HTTP 503", lead.now, retry_after_s=7.0)
    assert lead.session.deadline == lead.now + 7.5


def test_goaway_is_heeded(connected: Lead) -> None:
    connected.push("m")
    connected.session.on_handled("m", connected.now)
    actions = connected.gets(op="goaway", reason="shutdown", reconnect_after=3.5)
    assert kinds(actions) == [Transmit, Disconnect, Report]
    assert sent(actions) == [{"op": "ack", "ids": ["m"]}]
    assert connected.session.deadline == connected.now + 3.5
    assert not connected.lost(1000), "its own close"
    assert Connect() in connected.later(3.5)


@pytest.mark.parametrize(("asked", "waits"), [(-5, 0.0), (1e9, MAX_PAUSE_S)])
def test_a_pause_has_bounds(connected: Lead, asked: float, waits: float) -> None:
    connected.gets(op="goaway", reconnect_after=asked)
    assert connected.session.deadline - connected.now == waits


# Signs of life.


def test_a_silent_connection_is_pinged_and_given_up(connected: Lead) -> None:
    assert connected.session.deadline == connected.now + HEARTBEAT_S
    assert sent(connected.later(HEARTBEAT_S)) == [{"op": "ping"}]
    assert not connected.later(9.9)
    actions = connected.later(0.1)
    assert kinds(actions) == [Disconnect, Report]
    assert isinstance(actions[0], Disconnect)
    assert actions[0].abort


@pytest.mark.parametrize("op", ["pong", "dropped", "of the future"])
def test_any_frame_is_a_sign_of_life(connected: Lead, op: str) -> None:
    connected.later(HEARTBEAT_S)
    connected.gets(op=op, count=1)
    assert not connected.later(10)
    assert connected.session.state is ConnectionState.CONNECTED


# News.


def test_news_are_passed_on(connected: Lead) -> None:
    assert connected.gets(op="dropped", count=3) == (Lost(3),)
    news = connected.gets(op="token", token="new")  # noqa: S106 - an address
    assert news == (Readdress("new"),)
    connected.lost()
    connected.session.on_timer(connected.session.deadline)
    (frame,) = sent(connected.session.on_open(connected.now))
    assert frame.items() >= {"token": "new"}.items()


def test_what_cannot_be_acted_on_is_complained_of(connected: Lead) -> None:
    (bad,) = connected.session.on_message(b"\xc1", connected.now)
    assert isinstance(bad, Complain)
    assert bad.event == "frame.bad"
    (error,) = connected.gets(op="error", code="C", message="m", ref="nobody's")
    assert error == Complain("gateway.error", "C m nobody's")


def test_engagement_is_told_at_once_or_on_the_next_connection(connected: Lead) -> None:
    told = {"op": "event", "id": "m", "event": "opened", "at": 5, "action": "reply"}
    actions = connected.session.on_event("m", "opened", connected.now, at_ms=5, action="reply")
    assert sent(actions) == [told]
    connected.lost()
    assert not connected.session.on_event("m", "displayed", connected.now, at_ms=6)
    assert sent(connected.connect()) == [{"op": "event", "id": "m", "event": "displayed", "at": 6}]
    connected.session.close(connected.now)
    assert not connected.session.on_event("m", "displayed", connected.now, at_ms=7)


def test_engagement_kept_while_offline_is_bounded() -> None:
    lead = Lead(Options(max_outbox=2))
    for at_ms in range(5):
        lead.session.on_event("m", "clicked", lead.now, at_ms=at_ms)
    assert [frame["at"] for frame in sent(lead.connect())] == [3, 4]


# Requests.


def test_a_request_is_settled_by_its_answer(connected: Lead) -> None:
    assert sent(connected.session.request("r", {"op": "send", "id": "r"}, connected.now)) == [
        {"op": "send", "id": "r"}
    ]
    assert connected.gets(op="ok", ref="r") == [Settle("r", None)]
    assert connected.gets(op="ok", ref="r") == []


def test_a_refused_request_carries_the_gateways_error(connected: Lead) -> None:
    connected.session.request("r", {"op": "send"}, connected.now)
    (settled,) = connected.gets(op="error", code="INVALID_ARGUMENT", message="no", ref="r")
    assert isinstance(settled, Settle)
    assert isinstance(settled.error, RequestError)
    assert (settled.error.code, settled.error.message) == ("INVALID_ARGUMENT", "no")


def test_requests_are_kept_and_sent_again_over_reconnects(lead: Lead) -> None:
    assert not lead.session.request("a", {"n": 1}, lead.now)
    assert sent(lead.connect()) == [{"n": 1}]
    lead.session.request("b", {"n": 2}, lead.now)
    lead.lost()
    assert sent(lead.connect()) == [{"n": 1}, {"n": 2}]


def test_a_request_is_tried_again_while_the_store_is_away(connected: Lead) -> None:
    connected.session.request("r", {"n": 1}, connected.now)
    assert connected.gets(op="error", code="UNAVAILABLE", ref="r") == []
    assert connected.session.deadline == connected.now + 1.0
    assert not connected.later(0.9)
    assert sent(connected.later(0.1)) == [{"n": 1}]


def test_few_requests_are_in_flight_and_not_many_wait() -> None:
    lead = Lead(Options(max_requests=3, max_requests_in_flight=1))
    lead.connect()
    assert sent(lead.session.request("a", {"n": 1}, lead.now))
    assert not lead.session.request("b", {"n": 2}, lead.now)
    lead.session.request("c", {"n": 3}, lead.now)
    with pytest.raises(QueueFullError):
        lead.session.request("d", {"n": 4}, lead.now)
    actions = lead.gets(op="ok", ref="a")
    assert actions[0] == Settle("a", None)
    assert sent(actions) == [{"n": 2}]
    lead.session.forget("b")
    assert sent(lead.tick()) == [{"n": 3}]


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009])
def test_a_request_that_the_gateway_cannot_bear_is_not_repeated(connected: Lead, code: int) -> None:
    connected.session.request("r", {"n": 1}, connected.now)
    actions = connected.lost(code, "too big")
    assert isinstance(actions[0], Settle)
    assert isinstance(actions[0].error, RequestError)
    assert not sent(connected.connect())


# The end.


def test_closing_says_what_is_to_be_said(connected: Lead) -> None:
    connected.push("m")
    connected.session.on_handled("m", connected.now)
    connected.session.request("r", {"n": 1}, connected.now)
    actions = connected.session.close(connected.now)
    assert kinds(actions) == [Transmit, Disconnect, Settle, Report, Stop]
    assert sent(actions) == [{"op": "ack", "ids": ["m"]}]
    assert isinstance(actions[-1], Stop)
    assert isinstance(actions[-1].error, ClosedError)
    assert not connected.push("n")


def test_closing_before_the_first_connection(lead: Lead) -> None:
    assert kinds(lead.session.close(lead.now)) == [Report, Stop]
    assert not lead.session.start(lead.now)


def test_a_message_is_its_frame(connected: Lead) -> None:
    (action,) = connected.push("m")
    assert action == Deliver(wire.MessageFrame("m"))
