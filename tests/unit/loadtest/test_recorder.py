"""Percentiles, medians and the table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.recorder import Figure, Latencies, medians, percentile, table


def test_a_percentile_is_a_measured_value() -> None:
    values = [15, 20, 35, 40, 50]
    assert percentile(values, 0.3) == 20
    assert percentile(values, 0.4) == 20
    assert percentile(values, 0.5) == 35
    assert percentile(values, 1.0) == 50
    assert percentile(values, 0.0) == 15


@given(st.lists(st.integers(), min_size=1), st.floats(min_value=0, max_value=1))
def test_enough_values_are_within_a_percentile(values: list[int], share: float) -> None:
    bound = percentile(values, share)
    assert sum(value <= bound for value in values) >= share * len(values)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1], 1.1), ([1], -0.1)])
def test_a_percentile_of_nothing_is_refused(values: list[int], share: float) -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile(values, share)


def test_latency_counts_from_the_intended_time() -> None:
    latencies = Latencies()
    latencies.note(intended_ns=1_000_000, now_ns=3_500_000)
    latencies.note(intended_ns=5_000, now_ns=4_000)
    assert latencies.take() == [2500, 0]
    assert latencies.take() == []


def test_the_median_of_a_missing_part_counts_as_none() -> None:
    assert medians([{"api": 1.0, "store": 5.0}, {"api": 3.0}, {"api": 2.0, "store": 7.0}]) == {
        "api": 2.0,
        "store": 5.0,
    }


def test_a_figure_is_held_against_its_target_by_its_median() -> None:
    assert Figure(name="f", unit="µs", runs=(1, 2, 99), target=2).reached
    assert not Figure(name="f", unit="µs", runs=(1, 3, 99), target=2).reached
    assert Figure(name="f", unit="µs", runs=(1e9,)).reached


def test_the_table_marks_what_was_missed() -> None:
    missed = Figure(name="slow", unit="ms", runs=(30, 20, 10.5), target=5, parts={"api": 1234.5})
    lines = table([missed, Figure(name="free", unit="%", runs=(1,))]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "20.0 ms" in lines[2]
    assert "≤ 5.00 ms MISSED" in lines[2]
    assert "api 1234" in lines[2]
    assert "MISSED" not in lines[3]
