"""The parts of a run that do no I/O: histograms, schedule, layout, tally."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.recorder import percentile
from loadtest.run.histogram import MAX_US, Histogram
from loadtest.run.layout import Layout
from loadtest.run.protocol import DeviceTick, SenderTick
from loadtest.run.result import Latency, Life
from loadtest.run.samples import Uses
from loadtest.run.schedule import Schedule
from loadtest.run.spec import Targets, parse
from loadtest.run.tally import Tally, period_of


def histogram(values_us: list[int]) -> Histogram:
    made = Histogram()
    for value in values_us:
        made.note(0, value * 1000)
    return made


@given(
    st.lists(st.integers(1, 10_000_000), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_a_quantile_is_true_to_three_digits(values_us: list[int], share: float) -> None:
    exact_ms = percentile(values_us, share) / 1000
    assert histogram(values_us).quantile_ms(share) == pytest.approx(exact_ms, rel=0.001, abs=0.001)


def test_a_histogram_travels_in_pieces_without_loss() -> None:
    one, other = histogram([5, 50]), histogram([500])
    whole = Histogram()
    for part in (one, other):
        whole.add(part.take())
        assert part.count == 0
        assert part.take() == ""
    assert whole.count == 3
    assert whole.max_ms == pytest.approx(0.5)
    assert Latency.of(whole).decoded().quantile_ms(0.5) == pytest.approx(0.05)


def test_a_latency_counts_from_when_it_was_due_and_never_below_nothing() -> None:
    made = Histogram()
    made.note(due_ns=2_000_000, now_ns=5_000_000)
    assert made.max_ms == pytest.approx(3.0, rel=0.001)
    made.note(due_ns=9_000_000, now_ns=5_000_000)
    made.note(due_ns=0, now_ns=10 * MAX_US * 1000)
    assert made.count == 3
    assert made.quantile_ms(0.01) == 0.001


def test_an_empty_histogram_is_all_zeros() -> None:
    empty = Histogram()
    assert (empty.count, empty.max_ms, empty.mean_ms, empty.quantile_ms(0.99)) == (0, 0, 0, 0)
    assert empty.encoded() == ""


def taken(*, poisson: bool, seed: int = 1, count: int = 4_000) -> list[tuple[float, str, int]]:
    shares = {"token": 0.75, "topic": 0.25}
    schedule = Schedule(100.0, shares, {"token": 10, "topic": 2}, poisson=poisson, seed=seed)
    return list(itertools.islice(schedule.due(), count))


def test_a_constant_schedule_keeps_its_distance() -> None:
    times = [at for at, _, _ in taken(poisson=False, count=5)]
    assert times == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04])


def test_a_poisson_schedule_keeps_its_rate_and_not_its_distance() -> None:
    times = [at for at, _, _ in taken(poisson=True)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.01, rel=0.1)
    deviation = (sum((gap - 0.01) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(0.01, rel=0.15)  # an exponential distribution's is its mean


def test_a_schedule_is_a_function_of_its_seed_and_heeds_the_shares() -> None:
    assert taken(poisson=True) == taken(poisson=True)
    assert taken(poisson=True) != taken(poisson=True, seed=2)
    drawn = taken(poisson=False)
    assert sum(kind == "token" for _, kind, _ in drawn) / len(drawn) == pytest.approx(
        0.75, abs=0.05
    )
    assert {number for _, kind, number in drawn if kind == "topic"} == {0, 1}


def test_streams_and_their_audiences_agree() -> None:
    spec = parse("devices = 7\ntopics = 2", ["targets={token=1,user=1,topic=1,condition=1}"])
    layout = Layout(spec, "run")
    tokens = [f"t{number}" for number in range(7)]
    streams = {name: (target, size) for name, target, size in layout.streams(tokens)}
    audience: dict[str, int] = {}
    for device in range(7):
        for stream in layout.streams_of(device):
            audience[stream] = audience.get(stream, 0) + 1
    assert audience == {name: size for name, (_, size) in streams.items()}
    assert streams["token 3"] == ({"token": "t3"}, 1)
    assert streams["user 3"] == ({"user": "run-u3"}, 1)
    assert streams["topic 0"] == ({"topic": "run-0"}, 4)
    assert streams["condition 1"] == ({"condition": "'run-1' in topics"}, 3)
    assert layout.user_of(6) == "run-u3"


def test_only_targets_with_a_share_have_streams() -> None:
    layout = Layout(parse("devices = 2\ntargets = { topic = 2.0 }"), "run")
    assert layout.kinds == {"topic": 1.0}
    assert [name for name, _, _ in layout.streams(["a", "b"])] == ["topic 0"]
    assert layout.subscribing
    assert not layout.users
    assert Layout(parse("rate = 0"), "run").kinds == {}
    assert Targets().total == 0


def test_a_tally_sums_up_and_makes_points() -> None:
    tally = Tally(1.0)
    tally.senders(SenderTick(due=3, accepted=2, expected=4, errors={"503": 1}, backlog=1))
    tally.devices(0, DeviceTick(connected=5, delivered=2, delivery=histogram([1000, 2000]).take()))
    tally.devices(1, DeviceTick(connected=4, repeats=1, refused={"503": 2}))
    point = tally.close_point(1.0, Uses(pids={"shard-0": 7}, cpu={"shard-0": 12.5}))
    assert (point.due, point.accepted, point.delivered, point.errors) == (3, 2, 2, 1)
    assert (point.connected, point.backlog) == (9, 1)
    assert point.max == pytest.approx(2.0, rel=0.001)
    tally.devices(0, DeviceTick(connected=6))
    quiet = tally.close_point(2.0, Uses())
    assert (quiet.connected, quiet.delivered, quiet.max) == (10, 0, 0.0)
    assert (tally.expected, tally.delivered, tally.failed) == (4, 2, 1)
    assert tally.refused == {"503": 2}
    assert set(tally.latencies()) == {"delivery"}
    assert tally.lives == [Life("shard-0", 7, 0)]
    tally.close_point(3.0, Uses(pids={"shard-0": 9}))
    assert tally.lives[1:] == [Life("shard-0", 9, 2)]


def test_a_long_run_has_no_more_points_than_a_chart_can_show() -> None:
    assert period_of(30) == 1.0
    assert period_of(7200) == 8.0
    assert 7 * 86_400 / period_of(7 * 86_400) <= 1000
