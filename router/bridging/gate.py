"""How many pushes of a project's bridge may go now."""

from collections.abc import Callable, Collection
from typing import Final

from router.bridge import AnyBridge
from router.bridging.authorizations import Place
from router.bridging.directory import Directory
from router.bridging.health import Health
from router.bridging.pools import Account
from router.bridging.rates import Rates
from router.model.ids import PARTITIONS, Partition
from router.store.bridge_jobs import Lane

_ORPHANS: Final = 64
"""Of a bridge that is gone: their pushes end."""


class Gate:
    """Looks at whether a bridge is suspended, at its breaker and at its project's rate.

    Where devices name the hosts, each push is looked at by itself instead.

    Args:
        directory: the bridges and their credentials.
        bridges: the kinds, by name.
        health: of their audiences.
        rates: of projects.
        owned: gives the partitions that this worker owns.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(
        self,
        directory: Directory,
        bridges: dict[str, AnyBridge],
        health: Health,
        rates: Rates,
        owned: Callable[[], Collection[Partition]],
        now_ms: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._bridges = bridges
        self._health = health
        self._rates = rates
        self._owned = owned
        self._now_ms = now_ms

    @property
    def bridges(self) -> Collection[str]:
        """The names of the kinds."""
        return self._bridges.keys()

    def open_breakers(self, bridge: str) -> int:
        """Count the audiences of a bridge to which nothing, or little, goes."""
        return self._health.open_breakers(bridge)

    def room(self, lane: Lane, most: int) -> int:
        """Tell how many of a lane may go now, of so many at most."""
        if not self._directory.is_loaded:
            return 0
        bridge = self._bridges.get(lane.bridge)
        known = self._directory.credentials(lane.project, lane.bridge)
        if bridge is None or known is None:
            return min(most, _ORPHANS)
        now_ms = self._now_ms()
        rate = self._rates.room(bridge, lane.project, self._share(), now_ms)
        most = most if rate is None else min(most, rate)
        if bridge.foreign_hosts:
            return most
        generation, credentials = known
        account = Account(lane.project, lane.bridge, generation)
        place = Place(account, bridge.audience(credentials, None))
        if self._health.is_suspended(place):
            return 0
        probes = self._health.of(place).breaker.room(now_ms)
        return most if probes is None else min(most, probes)

    def took(self, lane: Lane, pushes: int) -> None:
        """Take it that so many go."""
        if (bridge := self._bridges.get(lane.bridge)) is not None:
            self._rates.took(bridge, lane.project, self._share(), pushes, self._now_ms())

    def _share(self) -> float:
        """Give the part of a project's rate that this worker may use."""
        return max(1, len(self._owned())) / PARTITIONS
