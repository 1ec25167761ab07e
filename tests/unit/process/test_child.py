"""How often a process may die, and how long it waits."""

import pytest
from typing_extensions import override

from gateway.process import Clock
from gateway.supervisor.child import GivenUpError, Life


class FixedClock(Clock):
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    @override
    def monotonic(self) -> float:
        return self.now


def test_backoff_doubles_to_its_limit() -> None:
    clock = FixedClock()
    life = Life("shard-0", clock)
    waits = [life.died(1.0) for _ in range(9)]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[-1] == 5.0


def test_steady_service_earns_a_quick_restart() -> None:
    life = Life("shard-0", FixedClock())
    for _ in range(5):
        life.died(1.0)
    assert life.died(60.0) == 0.05


def test_never_ready_is_given_up_soon() -> None:
    life = Life("api-1", FixedClock())
    for _ in range(4):
        life.died(None)
    with pytest.raises(GivenUpError, match="api-1 ended 5 times before it was ready"):
        life.died(None)


def test_failed_starts_count_only_in_a_row() -> None:
    life = Life("api-1", FixedClock())
    for _ in range(6):
        life.died(None)
        life.died(None)
        life.died(0.5)


def test_deaths_in_service_are_given_up_within_the_window_only() -> None:
    clock = FixedClock()
    life = Life("worker-0", clock)
    for _ in range(100):
        clock.now += 5.0
        life.died(5.0)
    for _ in range(39 - 25):
        life.died(5.0)
    with pytest.raises(GivenUpError, match=r"worker-0 died 40 times in 120 s"):
        life.died(5.0)
