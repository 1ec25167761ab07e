"""When a bridge takes over from the socket: pure.

Stored beside a message as `<lane>|<after ms>`: handed to a bridge after so long without an ack, at
once where the device is not connected; or `<lane>|o`: handed to a bridge alone. Empty for never.
"""

from router.model.lane import LANE_OF, Lane
from router.model.message import BridgeMode, BridgePolicy, Priority


def stored(policy: BridgePolicy, priority: Priority, after_ms: int) -> str:
    """Give what is stored of a policy; `after_ms` where the sender names no time."""
    if policy.mode is BridgeMode.NEVER:
        return ""
    if policy.mode is BridgeMode.ONLY:
        return f"{LANE_OF[priority].value}|o"
    wait_ms = after_ms if policy.after_s is None else policy.after_s * 1000
    return f"{LANE_OF[priority].value}|{wait_ms}"


def lane_of(stored_policy: str) -> Lane:
    """Give the lane of a message that a bridge may carry."""
    return Lane(int(stored_policy[0]))
