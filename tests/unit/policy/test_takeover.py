"""When a bridge takes over, as it is stored beside a message."""

import pytest

from router.model.lane import Lane
from router.model.message import BridgeMode, BridgePolicy, Priority
from router.policy.takeover import lane_of, stored


@pytest.mark.parametrize(
    ("policy", "priority", "expected"),
    [
        (BridgePolicy(), Priority.NORMAL, "2|10000"),
        (BridgePolicy(after_s=0), Priority.CRITICAL, "0|0"),
        (BridgePolicy(after_s=3), Priority.HIGH, "1|3000"),
        (BridgePolicy(BridgeMode.ONLY, 3), Priority.LOW, "3|o"),
        (BridgePolicy(BridgeMode.NEVER, 3), Priority.LOW, ""),
    ],
)
def test_a_policy_is_stored_with_its_lane(
    policy: BridgePolicy, priority: Priority, expected: str
) -> None:
    assert stored(policy, priority, 10_000) == expected


def test_the_lane_is_read_again() -> None:
    assert [lane_of(stored(BridgePolicy(), priority, 1)) for priority in Priority] == list(Lane)
