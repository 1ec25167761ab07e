"""Times as text."""

from hypothesis import given
from hypothesis import strategies as st

from router.model.times import Times


def test_a_time_is_written_in_utc_with_milliseconds() -> None:
    assert Times().of(1_764_000_000_005) == "2025-11-24T16:00:00.005Z"


@given(st.lists(st.integers(0, 4_000_000_000_000), min_size=1))
def test_times_are_right_in_any_order(times: list[int]) -> None:
    writer = Times()
    for time_ms in times:
        assert writer.of(time_ms) == Times().of(time_ms)
        assert writer.of(time_ms).endswith(f".{time_ms % 1000:03d}Z")
