"""Growth is told from noise, from connections, and from processes that began anew."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.run.figures import Costs, figures, spread_of
from loadtest.run.result import Life, Point
from loadtest.run.samples import Uses
from loadtest.run.spec import Bounds, parse
from loadtest.run.tally import Tally
from loadtest.run.trends import Trend, exceeded, slope_h, trends

HOUR_S = 3600


def curve(*values: float, step_s: float = 60.0) -> list[tuple[float, float]]:
    return [(number * step_s, value) for number, value in enumerate(values)]


def points(minutes: int, **values: object) -> list[Point]:
    """Give a point a minute; each value is a function of the minute."""
    return [
        Point(60.0 * minute, **{name: of(minute) for name, of in values.items()})  # type: ignore[operator]
        for minute in range(minutes)
    ]


@given(st.floats(-1000, 1000), st.floats(0, 1e6))
def test_the_slope_of_a_line_is_that_of_the_line(rate: float, start: float) -> None:
    line = [(float(at), start + rate * at / HOUR_S) for at in range(0, 1800, 60)]
    assert slope_h([line]) == pytest.approx(rate, abs=0.2)


def test_a_few_samples_of_a_bad_moment_do_not_move_a_slope() -> None:
    values = [100.0] * 60
    for at in range(3, 60, 7):
        values[at] = 5000.0
    assert slope_h([curve(*values)]) == 0


def test_a_leak_shows_through_noise() -> None:
    chance = random.Random(4)
    noisy = [minute * 10 + chance.uniform(-200, 200) for minute in range(120)]
    assert slope_h([curve(*noisy)]) == pytest.approx(600, rel=0.15)


def test_no_samples_have_no_slope() -> None:
    assert slope_h([]) is None
    assert slope_h([[(1.0, 5.0)]]) is None


def test_a_process_that_began_anew_is_no_growth_nor_shrinking() -> None:
    def pss(minute: int) -> dict[str, float]:
        return {"shard-0": 40 + minute % 20}  # 60 MiB an hour, lost with every death

    lives = [Life("shard-0", 100 + nth, 20 * nth) for nth in range(3)]
    found = trends(points(60, pss=pss), lives, 0, HOUR_S)["shard"]
    assert found.memory_kib_h == pytest.approx(60 * 1024)


def test_what_a_process_takes_at_first_does_not_count() -> None:
    def pss(minute: int) -> dict[str, float]:
        return {"api-0": 40 + min(minute, 20)}

    found = trends(points(60, pss=pss), [Life("api-0", 1, 0)], 0, HOUR_S)["api"]
    assert found.memory_kib_h == 0


def test_a_life_that_is_too_short_has_no_slope() -> None:
    made = points(3, pss=lambda _: {"api-0": 40.0}, descriptors=lambda _: {"api-0": 9})
    assert trends(made, [Life("api-0", 1, 0)], 0, HOUR_S) == {"api": Trend(None, None)}
    assert trends(made, [Life("api-0", 1, 0)], 1e6, 2e6) == {}


def test_connections_that_come_and_move_are_no_leak_of_a_shard() -> None:
    def connected(minute: int) -> int:
        return 500 + 40 * minute

    def descriptors(minute: int) -> dict[str, int]:
        half = connected(minute) // 2
        away = 100 if minute >= 30 else 0
        return {"shard-0": 20 + half + away, "shard-1": 20 + connected(minute) - half - away}

    lives = [Life("shard-0", 1, 0), Life("shard-1", 2, 0)]
    found = trends(points(60, connected=connected, descriptors=descriptors), lives, 0, HOUR_S)
    assert found["shard"].descriptors_h == 0


def test_a_leak_of_descriptors_shows_between_two_deaths() -> None:
    def descriptors(minute: int) -> dict[str, int]:
        return {"worker-0": 30 + minute % 30, "worker-1": 40}

    lives = [Life("worker-1", 7, 0), Life("worker-0", 1, 0), Life("worker-0", 2, 30)]
    found = trends(points(60, descriptors=descriptors), lives, 0, HOUR_S)
    assert found["worker"].descriptors_h == 60


def test_a_time_in_which_a_process_is_down_does_not_count() -> None:
    def descriptors(minute: int) -> dict[str, int]:
        return {"api-0": 50} if 20 <= minute < 25 else {"api-0": 50, "api-1": 50}

    lives = [Life("api-0", 1, 0), Life("api-1", 2, 0), Life("api-1", 3, 25)]
    assert trends(points(60, descriptors=descriptors), lives, 0, HOUR_S)["api"].descriptors_h == 0


def test_bounds_name_the_role_the_growth_and_what_is_allowed() -> None:
    found = {"api": Trend(5000.0, 3.0), "store": Trend(9000.0, 0.0), "shard": Trend(10.0, 20.0)}
    bounds = Bounds(memory_slope_kib_h=4096, store_slope_kib_h=8192, descriptor_slope_h=10)
    assert exceeded(found, bounds).failed == [
        "memory of the api: 5000 KiB more an hour; the bound is 4096",
        "memory of the store: 9000 KiB more an hour; the bound is 8192",
        "descriptors of the shard: 20 descriptors more an hour; the bound is 10",
    ]
    assert exceeded(found, Bounds()).failed == []
    assert exceeded({"api": Trend(-5000.0, -1.0)}, bounds).failed == []


def test_a_bound_that_could_not_be_looked_at_is_told() -> None:
    said = exceeded({"api": Trend(None, 0.0)}, Bounds(memory_slope_kib_h=1, descriptor_slope_h=1))
    assert said.failed == []
    assert said.untold.endswith("for a slope of: memory of the api")


def test_a_spread_is_told_without_the_descriptors_that_are_no_connections() -> None:
    held = {"shard-0": 130, "shard-1": 110, "shard-2": 90, "api-0": 500}
    assert spread_of(Point(1.0, connected=300, descriptors=held)) == pytest.approx(1.2)
    assert spread_of(Point(1.0, connected=300, descriptors={"shard-0": 310})) is None
    assert spread_of(Point(1.0, connected=0, descriptors=held)) is None


def test_figures_hold_memory_descriptors_and_slopes_of_each_role() -> None:
    tally = Tally(1.0)
    for t, many in itertools.product([1.0], [7, 3]):
        pss, open_ones = {"shard-0": 40.0, "shard-1": 41.5}, {"shard-0": many, "shard-1": 2}
        tally.close_point(t, Uses(pss=pss, descriptors=open_ones))
    costs = Costs({}, 0.0, {}, {"shard": Trend(12.5, None)})
    assert figures(tally, parse("rate = 0"), {}, costs) == {
        "memory of the shard in the end, MiB": 81.5,
        "descriptors of the shard at most": 9,
        "memory slope of the shard, KiB an hour and process": 12.5,
    }
