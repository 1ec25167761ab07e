"""The timer wheel: never early, late by a tick at the most, nothing lost, nothing kept."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.shard.timer_wheel import TimerWheel

TICK = 100
SLOTS = 16
HORIZON = TICK * SLOTS


class Item:
    """As a connection: its deadline, and what the wheel said."""

    def __init__(self, due_ms: int = 0) -> None:
        self.due_ms = due_ms
        self.armed_ms = 0


def wheel(now_ms: int = 0) -> TimerWheel[Item]:
    return TimerWheel(now_ms, TICK, SLOTS)


def test_gives_an_item_at_its_time_and_once() -> None:
    timers, item = wheel(), Item()
    armed_ms = timers.arm(item, 250)
    assert armed_ms == 300
    assert timers.advance(299) == []
    assert timers.advance(300) == [item]
    assert timers.advance(2 * HORIZON) == []
    assert len(timers) == 0


def test_a_time_that_is_over_is_given_at_the_next_tick() -> None:
    timers, item = wheel(1000), Item()
    assert timers.arm(item, 3) == 1100
    assert timers.advance(1100) == [item]


def test_gives_a_far_deadline_at_the_horizon() -> None:
    timers, item = wheel(), Item()
    assert timers.arm(item, 50 * HORIZON) == HORIZON
    assert timers.advance(HORIZON) == [item]


def test_an_earlier_deadline_moves_the_item_a_later_one_does_not() -> None:
    timers, item = wheel(), Item()
    armed_ms = timers.arm(item, 500)
    assert timers.arm(item, 900, armed_ms) == 500
    armed_ms = timers.arm(item, 200, armed_ms)
    assert armed_ms == 200
    assert len(timers) == 1
    assert timers.advance(HORIZON) == [item]


def test_disarm_forgets_at_once() -> None:
    timers, item = wheel(), Item()
    timers.disarm(item, timers.arm(item, 500))
    timers.disarm(item, 0)
    assert list(timers) == []
    assert timers.advance(HORIZON) == []


def test_lists_what_is_armed() -> None:
    timers, items = wheel(), [Item(), Item(), Item()]
    for index, item in enumerate(items):
        timers.arm(item, 100 * index)
    assert set(timers) == set(items)


def test_after_a_long_stall_each_item_is_given_once() -> None:
    timers, items = wheel(), [Item() for _ in range(SLOTS)]
    for index, item in enumerate(items):
        timers.arm(item, TICK * (index + 1))
    assert len(timers.advance(1000 * HORIZON)) == SLOTS
    assert timers.arm(items[0], 0) == 1000 * HORIZON + TICK


def test_a_clock_that_goes_back_a_little_loses_nothing() -> None:
    timers, item = wheel(10_000), Item()
    timers.arm(item, 10_500)
    assert timers.advance(9_900) == []
    assert timers.advance(10_500) == [item]


def test_a_clock_that_goes_far_back_gives_all_so_that_none_waits_for_the_old_time() -> None:
    timers, item = wheel(1_000_000), Item()
    timers.arm(item, 1_000_500)
    assert timers.advance(5_000) == [item]
    assert timers.arm(item, 5_200) == 5_200
    assert timers.advance(5_200) == [item]


@given(
    st.lists(st.integers(0, 5 * HORIZON), min_size=1, max_size=30),
    st.lists(
        st.one_of(
            st.tuples(st.just("advance"), st.integers(1, 3 * HORIZON), st.just(0)),
            st.tuples(st.just("move"), st.integers(0, 29), st.integers(0, 4 * HORIZON)),
            st.tuples(st.just("disarm"), st.integers(0, 29), st.just(0)),
        ),
        max_size=40,
    ),
)
def test_with_owners_that_arm_again_every_item_fires_within_a_tick_of_its_deadline(
    dues: list[int], steps: list[tuple[str, int, int]]
) -> None:
    timers = wheel()
    items = [Item(due) for due in dues]
    now = 0
    for item in items:
        item.armed_ms = timers.arm(item, item.due_ms)
    for step, number, value in steps:
        item = items[number % len(items)]
        if step == "move" and item.armed_ms:
            item.due_ms = now + value
            item.armed_ms = timers.arm(item, item.due_ms, item.armed_ms)
        elif step == "disarm":
            timers.disarm(item, item.armed_ms)
            item.armed_ms = 0
        elif step == "advance":
            now += number
            fire_due(timers, now)
        assert len(timers) == sum(1 for each in items if each.armed_ms)
        for each in items:
            assert not each.armed_ms or each.due_ms > now - TICK


def fire_due(timers: TimerWheel[Item], now: int) -> None:
    for item in timers.advance(now):
        assert item.armed_ms <= now
        early, item.armed_ms = item.due_ms > now, 0
        if early:
            item.armed_ms = timers.arm(item, item.due_ms)
