"""How fast a project's topics are written: so many deliveries a second. Pure.

The generic cell rate algorithm (ITU-T I.371): of each project one time is kept, at which all that
it was given would be earned at its rate. What it may run ahead of that is its burst.
"""

from typing import Final

from router.model.ids import ProjectId
from router.model.lane import Lane

BURST_S: Final = 0.1
"""Seconds' worth of deliveries that may go out at once."""
CRITICAL_BURST_S: Final = 1.0
"""The same where they are critical: they wait only behind a project's own critical ones."""
_MAX_IDLE: Final = 1_000


class Pace:
    """What each project has used of its rate.

    Args:
        rate: deliveries a second and project; 0 for as many as there are.
    """

    __slots__ = ("_earned_s", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._earned_s: dict[ProjectId, float] = {}

    def wait_s(self, project: ProjectId, lane: Lane, now_s: float) -> float:
        """Give the seconds until the project may go on: 0 or less for now."""
        earned_s = self._earned_s.get(project)
        if earned_s is None:
            return 0.0
        return earned_s - now_s - (CRITICAL_BURST_S if lane is Lane.CRITICAL else BURST_S)

    def charge(self, project: ProjectId, deliveries: int, now_s: float) -> None:
        """Take it that so much was written; it may be more than there was left."""
        if not self._rate:
            return
        earned_s = self._earned_s
        if project not in earned_s and len(earned_s) >= _MAX_IDLE:
            self._earned_s = earned_s = {
                one: at_s for one, at_s in earned_s.items() if at_s > now_s
            }
        earned_s[project] = max(earned_s.get(project, now_s), now_s) + deliveries / self._rate
