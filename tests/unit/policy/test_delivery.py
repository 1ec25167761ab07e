"""The table of states: complete, sound, and the same as the one in the documentation."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.message import MAX_TTL_S
from router.model.receipt import ENGAGEMENT, TERMINAL, Event
from router.policy import delivery
from router.policy.delivery import EDGES, IllegalTransitionError, State

_ONCE = ENGAGEMENT | TERMINAL | {Event.BRIDGED, Event.FAILED}
_states: st.SearchStrategy[State] = st.sampled_from([None, *Event])


@st.composite
def _lives(draw: st.DrawFn) -> list[Event]:
    """Walk the table from its beginning."""
    state: State = None
    life: list[Event] = []
    for _ in range(draw(st.integers(1, 20))):
        open_to = sorted(
            event
            for event in Event
            if delivery.is_legal(state, event) and not (event in life and event in _ONCE)
        )
        if not open_to:
            break
        event = draw(st.sampled_from(open_to))
        state = delivery.advance(state, event)
        life.append(event)
    return life


def test_every_state_has_a_row_and_every_state_is_reached() -> None:
    states = set(Event) - {Event.UPSTREAM, Event.UNREGISTERED}
    assert set(EDGES) == {None, *states}
    assert set().union(*EDGES.values()) == states


@given(_states, st.sampled_from(Event))
def test_every_state_takes_or_refuses_every_event(state: State, event: Event) -> None:
    if delivery.is_legal(state, event):
        assert delivery.advance(state, event) in {state, event}
    else:
        with pytest.raises(IllegalTransitionError) as caught:
            delivery.advance(state, event)
        assert (caught.value.state, caught.value.event) == (state, event)


@given(_lives())
def test_a_life_ends_once(life: list[Event]) -> None:
    delivery.replay(life)
    assert sum(event in TERMINAL for event in life) <= 1


@given(_lives())
def test_after_the_end_only_engagement_follows_and_only_a_delivery(life: list[Event]) -> None:
    ends = [index for index, event in enumerate(life) if event in TERMINAL]
    for index in ends:
        rest = life[index + 1 :]
        assert all(event in ENGAGEMENT for event in rest)
        assert not rest or life[index] is Event.DELIVERED


@given(_lives())
def test_the_end_can_be_reached_from_everywhere(life: list[Event]) -> None:
    state = delivery.replay(life)
    if not delivery.is_done(state) and state is not Event.SCHEDULED:
        assert delivery.is_done(delivery.advance(state, Event.DELIVERED))
    if state is Event.SCHEDULED:
        assert delivery.is_done(delivery.advance(state, Event.CANCELLED))


@pytest.mark.parametrize(
    "life",
    [
        [Event.SENT],
        [Event.ACCEPTED, Event.ACCEPTED],
        [Event.SCHEDULED, Event.SENT],
        [Event.ACCEPTED, Event.EXPIRED, Event.DELIVERED],
        [Event.ACCEPTED, Event.DELIVERED, Event.DELIVERED],
        [Event.ACCEPTED, Event.DELIVERED, Event.SENT],
        [Event.ACCEPTED, Event.DELIVERED, Event.BRIDGED],
        [Event.ACCEPTED, Event.BRIDGED, Event.BRIDGED],
        [Event.ACCEPTED, Event.BRIDGED, Event.FAILED],
        [Event.ACCEPTED, Event.FAILED, Event.FAILED],
        [Event.ACCEPTED, Event.OPENED],
        [Event.ACCEPTED, Event.DELIVERED, Event.OPENED, Event.DISPLAYED, Event.OPENED],
    ],
)
def test_a_life_that_cannot_be_is_refused(life: list[Event]) -> None:
    with pytest.raises(IllegalTransitionError):
        delivery.replay(life)


@pytest.mark.parametrize(
    ("life", "state"),
    [
        ([], None),
        ([Event.ACCEPTED, Event.SENT, Event.DELIVERED], Event.DELIVERED),
        ([Event.ACCEPTED, Event.DELIVERED], Event.DELIVERED),
        ([Event.ACCEPTED, Event.SENT, Event.NACKED, Event.SENT, Event.EXPIRED], Event.EXPIRED),
        ([Event.ACCEPTED, Event.SENT, Event.NACKED, Event.NACKED], Event.NACKED),
        ([Event.ACCEPTED, Event.SENT, Event.DISPLAYED], Event.SENT),
        (
            [Event.ACCEPTED, Event.SENT, Event.DISPLAYED, Event.DELIVERED, Event.OPENED],
            Event.OPENED,
        ),
        ([Event.SCHEDULED, Event.ACCEPTED, Event.COLLAPSED], Event.COLLAPSED),
        ([Event.SCHEDULED, Event.CANCELLED], Event.CANCELLED),
        ([Event.ACCEPTED, Event.BRIDGED, Event.SENT, Event.DELIVERED], Event.DELIVERED),
        ([Event.ACCEPTED, Event.FAILED, Event.SENT, Event.DELIVERED], Event.DELIVERED),
        ([Event.ACCEPTED, Event.FAILED, Event.BRIDGED], Event.BRIDGED),
        ([Event.ACCEPTED, Event.BRIDGED, Event.OPENED], Event.BRIDGED),
    ],
)
def test_a_life_ends_where_it_should(life: list[Event], state: State) -> None:
    assert delivery.replay(life) is state


_times = st.integers(0, 2**45)
_ttls = st.integers(0, MAX_TTL_S * 1000)


@given(_times, _ttls)
def test_the_ttl_counts_from_acceptance(now_ms: int, ttl_ms: int) -> None:
    times = delivery.lifetime(now_ms, ttl_ms)
    assert times == (now_ms, 0, now_ms + ttl_ms)
    assert delivery.is_expired(times.expires_ms, now_ms) == (ttl_ms == 0)
    assert delivery.is_expired(times.expires_ms, times.expires_ms)


@given(_times, _ttls, _times)
def test_a_scheduled_message_lives_from_its_time_and_the_past_means_now(
    now_ms: int, ttl_ms: int, send_at_ms: int
) -> None:
    times = delivery.lifetime(now_ms, ttl_ms, send_at_ms)
    assert times.expires_ms == max(now_ms, send_at_ms) + ttl_ms
    assert times.send_at_ms == (send_at_ms if send_at_ms > now_ms else 0)


def test_the_documentation_shows_this_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "concepts.md"
    assert f"```mermaid\n{delivery.diagram()}```\n" in page.read_text(encoding="utf-8")
