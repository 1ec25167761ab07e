"""Rates that providers allow: to one device, and for one project.

Kept in memory: a device's partition has one owner, and of a project's rate a worker uses as much
as it owns of the partitions. Who takes over a partition starts with full buckets.
"""

from typing import Final, TypeVar

from router.bridge import AnyBridge
from router.model.ids import DeviceId, ProjectId
from router.model.limits import Rate
from router.policy.rates import charge

N = TypeVar("N", int, float)

_MINUTE_S: Final = 60
_BURST: Final = 4
"""A bucket holds a quarter of a minute's pushes and fills at three quarters of the rate, so that no
minute sees more than the provider allows."""
_DEVICES: Final = 100_000
"""Buckets of devices that are kept."""


class Rates:
    """The buckets of one worker."""

    def __init__(self) -> None:
        self._devices: dict[tuple[str, DeviceId], float] = {}
        self._blocked: dict[tuple[str, DeviceId], int] = {}
        self._projects: dict[tuple[str, ProjectId], float] = {}

    def take_device(self, bridge: AnyBridge, device: DeviceId, now_ms: int) -> int:
        """Take a push to a device: 0 where it may go, else the milliseconds to wait."""
        key = (bridge.name, device)
        if self._blocked and (until_ms := self._blocked.get(key, 0)):
            if now_ms < until_ms:
                return until_ms - now_ms
            del self._blocked[key]
        if not bridge.device_per_minute:
            return 0
        now_us = now_ms * 1000
        rate = _rate(bridge.device_per_minute, 1.0)
        charged = charge(self._devices.get(key, 0.0), now_us, rate, 1)
        if not charged.granted:
            return max(1, int(charged.wait_us / 1000))
        _make_room(self._devices, now_us)
        self._devices[key] = charged.full_us
        return 0

    def block_device(self, bridge: AnyBridge, device: DeviceId, until_ms: int, now_ms: int) -> None:
        """Send nothing to a device until then: its provider asked for it."""
        _make_room(self._blocked, now_ms)
        self._blocked[bridge.name, device] = until_ms

    def room(self, bridge: AnyBridge, project: ProjectId, share: float, now_ms: int) -> int | None:
        """Tell how many pushes of a project may go now; None for any number.

        Args:
            bridge: whose provider has the limit.
            project: whose pushes.
            share: of the project's rate, above 0 and up to 1.
            now_ms: the clock, epoch milliseconds.
        """
        if not bridge.project_per_minute:
            return None
        rate = _rate(bridge.project_per_minute, share)
        full_us = self._projects.get((bridge.name, project), 0.0)
        return charge(full_us, now_ms * 1000, rate, int(rate.burst)).granted

    def took(
        self, bridge: AnyBridge, project: ProjectId, share: float, pushes: int, now_ms: int
    ) -> None:
        """Take it that so many pushes of a project go; no more than there is room for."""
        if bridge.project_per_minute:
            key = (bridge.name, project)
            rate = _rate(bridge.project_per_minute, share)
            charged = charge(self._projects.get(key, 0.0), now_ms * 1000, rate, pushes)
            self._projects[key] = charged.full_us


def _make_room(buckets: dict[tuple[str, DeviceId], N], now: float) -> None:
    """Forget what is over, and the oldest half where that is not enough."""
    if len(buckets) < _DEVICES:
        return
    over = [key for key, until in buckets.items() if until <= now]
    for key in over or list(buckets)[: _DEVICES // 2]:
        del buckets[key]


def _rate(per_minute: int, share: float) -> Rate:
    burst = max(1.0, per_minute / _BURST * share)
    return Rate(per_minute * share * (_BURST - 1) / _BURST / _MINUTE_S, burst)
