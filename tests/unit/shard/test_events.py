"""The table of a session's states: complete, sound, and what the session keeps to."""

from gateway.shard.events import TRANSITIONS, Input, SessionLimits, State, Tally
from router.model.ids import ShardId


def test_every_state_has_a_row_and_every_input_a_place() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {cause for row in TRANSITIONS.values() for cause in row} == set(Input)


def test_an_input_leads_somewhere_and_no_session_goes_back() -> None:
    for state, row in TRANSITIONS.items():
        for cause, to in row.items():
            assert to, (state, cause)
            assert min(to) >= state, (state, cause)


def test_the_end_is_reached_from_everywhere_and_is_the_end() -> None:
    assert all(State.CLOSED in set().union(*row.values()) for row in TRANSITIONS.values())
    assert set().union(*TRANSITIONS[State.CLOSED].values()) == {State.CLOSED}


def test_every_state_is_reached() -> None:
    reached = {State.CONNECTING}
    for state in State:
        if state in reached:
            reached |= set().union(*TRANSITIONS[state].values())
    assert reached == set(State)


def test_a_socket_may_go_in_any_state() -> None:
    assert all(Input.CLOSED in row for row in TRANSITIONS.values())


def test_a_session_that_drains_does_what_a_live_one_does() -> None:
    live, draining = TRANSITIONS[State.LIVE], TRANSITIONS[State.DRAINING]
    for cause in live:
        as_live = {State.LIVE if to is State.DRAINING else to for to in draining[cause]}
        assert cause is Input.GOAWAY or as_live == live[cause]


def test_a_closed_session_takes_whatever_was_still_on_its_way() -> None:
    assert set(TRANSITIONS[State.CLOSED]) == set(Input)


def test_limits_have_defaults() -> None:
    limits = SessionLimits(shard=ShardId("s"), tally=Tally())
    assert limits.sent_after_ms < limits.ack_timeout_ms
    assert limits.live_grace_ms < limits.ack_timeout_ms
