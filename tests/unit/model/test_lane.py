"""Lanes: the order of priorities."""

from router.model.lane import LANE_OF, Lane, slowest
from router.model.message import Priority


def test_every_priority_has_a_lane_of_its_own_in_the_order_of_urgency() -> None:
    assert [LANE_OF[priority] for priority in Priority] == sorted(Lane)
    assert [lane.label for lane in Lane] == [priority.value for priority in Priority]


def test_what_is_stored_in_one_go_is_as_urgent_as_the_least_urgent_of_it() -> None:
    assert slowest([Priority.CRITICAL, Priority.LOW, Priority.HIGH]) is Lane.LOW
    assert slowest([Priority.CRITICAL]) is Lane.CRITICAL
    assert slowest([]) is Lane.NORMAL
    assert [lane.urgent for lane in Lane] == [True, True, False, False]
