"""A rate of deliveries for each project."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shard.pace import BURST_S, CRITICAL_BURST_S, Pace
from router.model.ids import ProjectId
from router.model.lane import Lane

A, B = ProjectId("a"), ProjectId("b")


def test_a_project_waits_for_what_it_used_beyond_its_burst() -> None:
    pace = Pace(rate=1000)
    assert pace.wait_s(A, Lane.NORMAL, 5.0) <= 0
    pace.charge(A, 300, 5.0)
    assert pace.wait_s(A, Lane.NORMAL, 5.0) == pytest.approx(0.3 - BURST_S)
    assert pace.wait_s(A, Lane.NORMAL, 5.0 + 0.3 - BURST_S) == pytest.approx(0)


def test_projects_have_a_rate_each() -> None:
    pace = Pace(rate=10)
    pace.charge(A, 1000, 1.0)
    assert pace.wait_s(A, Lane.NORMAL, 1.0) > 90
    assert pace.wait_s(B, Lane.NORMAL, 1.0) <= 0


def test_what_is_critical_does_not_wait_behind_bulk_at_its_pace() -> None:
    pace = Pace(rate=1000)
    pace.charge(A, 256, 1.0)
    assert pace.wait_s(A, Lane.NORMAL, 1.0) > 0
    assert pace.wait_s(A, Lane.CRITICAL, 1.0) <= 0
    pace.charge(A, 1000, 1.0)  # but nobody may call everything critical
    assert pace.wait_s(A, Lane.CRITICAL, 1.0) == pytest.approx(1.256 - CRITICAL_BURST_S)


def test_a_rate_of_zero_is_none() -> None:
    pace = Pace(rate=0)
    pace.charge(A, 1_000_000, 1.0)
    assert pace.wait_s(A, Lane.LOW, 1.0) <= 0


def test_projects_that_have_earned_everything_are_forgotten() -> None:
    pace = Pace(rate=1000)
    for number in range(5000):
        pace.charge(ProjectId(str(number)), 1, float(number))
    assert len(pace._earned_s) <= 1000


@given(
    st.floats(1, 1e5),
    st.lists(st.tuples(st.floats(0, 0.1), st.integers(1, 256)), min_size=1, max_size=100),
)
def test_no_more_than_the_rate_goes_out(rate: float, tries: list[tuple[float, int]]) -> None:
    pace, now_s, given_out, last = Pace(rate), 0.0, 0, 0
    for pause_s, slice_ in tries:
        now_s += pause_s
        if pace.wait_s(A, Lane.NORMAL, now_s) <= 0:
            pace.charge(A, slice_, now_s)
            given_out, last = given_out + slice_, slice_
    assert given_out - last <= rate * (now_s + BURST_S) * (1 + 1e-9) + 1e-6
