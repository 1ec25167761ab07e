"""How each audience does: its breaker, what is heard of its addresses, whether it is suspended."""

from collections.abc import Callable
from typing import Final

import structlog

from router.bridging.authorizations import Place
from router.bridging.directory import Directory
from router.model.errors import PushError
from router.policy.breaker import Breaker, State
from router.policy.suspicion import Suspicion
from router.store.bridge_credentials import BridgeCredentials
from router.telemetry.metrics import Metrics

_KEPT: Final = 10_000
"""Audiences that are remembered: devices name those of Web Push."""
_SETTLING_MS: Final = 5_000
"""So long a suspension counts before the store has shown it."""

_log = structlog.stdlib.get_logger(__name__)


class Audience:
    """One audience of a project's credentials."""

    __slots__ = ("breaker", "suspected_ms", "suspicion", "under_way")

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.suspicion = Suspicion()
        self.suspected_ms = 0
        """When it was suspended here."""
        self.under_way = 0


class Health:
    """What a worker knows of audiences.

    Args:
        directory: which are suspended.
        kept: where that is kept.
        metrics: of bridges.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(
        self,
        directory: Directory,
        kept: BridgeCredentials,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._kept = kept
        self._metrics = metrics
        self._now_ms = now_ms
        self._audiences: dict[Place, Audience] = {}

    def of(self, place: Place) -> Audience:
        """Give what is known of an audience."""
        found = self._audiences.get(place)
        if found is None:
            if len(self._audiences) >= _KEPT:
                self._forget()
            found = self._audiences[place] = Audience()
        return found

    def is_suspended(self, place: Place) -> bool:
        """Tell whether nothing may go to an audience."""
        account = place.account
        if self._directory.suspended(account.project, account.bridge, place.audience):
            return True
        found = self._audiences.get(place)
        return found is not None and 0 <= self._now_ms() - found.suspected_ms < _SETTLING_MS

    async def suspend(self, place: Place, reason: str) -> None:
        """Let nothing more go to an audience, until its credentials pass a test or change.

        Where the store is away, the next answer of the provider brings it about.
        """
        account, audience = place.account, self.of(place)
        now_ms = self._now_ms()
        if self.is_suspended(place):
            return
        audience.suspected_ms = now_ms
        self._metrics.bridge_suspensions.labels(account.bridge).inc()
        _log.error(
            "bridge.suspended",
            project=account.project,
            bridge=account.bridge,
            audience=place.audience,
            reason=reason,
        )
        try:
            await self._kept.suspend(
                account.project, account.bridge, account.generation, place.audience, reason, now_ms
            )
            await self._directory.refresh()
        except PushError as error:
            _log.warning("bridge.suspension_waits", reason=error.message)

    def open_breakers(self, bridge: str) -> int:
        """Count the breakers of a bridge that are not closed."""
        now_ms = self._now_ms()
        return sum(
            place.account.bridge == bridge and each.breaker.state(now_ms) is not State.CLOSED
            for place, each in self._audiences.items()
        )

    def _forget(self) -> None:
        """Make room: those that do well and have nothing under way; they cost nothing to learn."""
        now_ms = self._now_ms()
        idle = [place for place, each in self._audiences.items() if not each.under_way]
        well = [p for p in idle if self._audiences[p].breaker.state(now_ms) is State.CLOSED]
        for place in (well or idle)[: _KEPT // 2]:
            del self._audiences[place]
