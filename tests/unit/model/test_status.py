"""Status: where a message stands, told from its timeline."""

from hypothesis import given
from hypothesis import strategies as st

from router.model.receipt import ENGAGEMENT, TERMINAL, Event
from router.model.status import TimelineEntry, furthest, in_order, rates

_entries = st.lists(
    st.builds(
        TimelineEntry, st.sampled_from(Event), st.integers(0, 3), st.sampled_from(["", "why"])
    )
)


def _timeline(*events: Event) -> tuple[TimelineEntry, ...]:
    return tuple(TimelineEntry(event, 5) for event in events)


def test_a_message_without_events_was_accepted() -> None:
    assert furthest(()) is Event.ACCEPTED


def test_the_end_of_a_life_goes_further_than_its_way() -> None:
    way = (Event.SCHEDULED, Event.ACCEPTED, Event.SENT, Event.NACKED, Event.BRIDGED)
    for end in TERMINAL:
        assert furthest(_timeline(end, *way)) is end


def test_what_the_user_did_goes_further_than_the_delivery() -> None:
    for event in ENGAGEMENT:
        assert furthest(_timeline(event, Event.DELIVERED)) is event


@given(_entries)
def test_a_timeline_runs_forward(entries: list[TimelineEntry]) -> None:
    timeline = in_order(entries)
    assert [entry.time_ms for entry in timeline] == sorted(entry.time_ms for entry in entries)
    assert sorted(map(repr, timeline)) == sorted(map(repr, entries))


def test_events_of_one_millisecond_stand_in_the_order_of_a_life() -> None:
    life = (Event.ACCEPTED, Event.SENT, Event.DELIVERED, Event.OPENED)
    assert in_order(list(reversed(_timeline(*life)))) == _timeline(*life)


def test_rates_are_shares_between_0_and_1() -> None:
    counts = {"accepted": 1, "sent": 8, "delivered": 6, "opened": 3, "clicked": 7}
    assert rates(counts) == {
        "delivered": 0.75,
        "displayed": 0.0,
        "opened": 0.5,
        "clicked": 1.0,
        "dismissed": 0.0,
    }
    assert set(rates({"accepted": 1, "opened": 2}).values()) == {0.0}
