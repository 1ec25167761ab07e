"""Authorizations: one for each project's credentials and audience, made once and renewed ahead.

However many pushes want one at the same time, one makes it and the others wait for what comes of
it. One that has not ended yet is used on where its renewal fails: a token endpoint may be away for
a while.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from router.bridge import AnyBridge, Authorization, Credentials, Misconfigured, RetryAfter, Scope
from router.bridging.pools import Account, Pools
from router.bridging.transport import TransportError
from router.policy.retry import Backoff
from router.telemetry.metrics import Metrics

_KEPT: Final = 10_000
"""Authorizations that are kept: devices name the audiences of Web Push."""
_RENEWAL: Final = Backoff(base_s=1.0, cap_s=60.0)

Refusal = RetryAfter | Misconfigured

_log = structlog.stdlib.get_logger(__name__)


class Place(NamedTuple):
    """Whose authorization, for whom."""

    account: Account
    audience: str


class _Kept:
    __slots__ = ("asked", "failures", "granted", "making", "next_ms", "over", "refusal")

    def __init__(self) -> None:
        self.granted: Authorization | None = None
        self.over = False
        """Whether the provider refused it before its end."""
        self.making = asyncio.Lock()
        self.asked = 0
        """How often one was asked for,"""
        self.refusal: Refusal | None = None
        """and what was said instead of one, the last time."""
        self.failures = 0
        self.next_ms = 0
        """After a renewal that failed: when the next is tried."""

    def usable(self, now_ms: int) -> Authorization | None:
        granted = self.granted
        return None if granted is None or self.over or now_ms >= granted.ends_ms else granted

    def fresh(self, now_ms: int) -> Authorization | None:
        granted = self.usable(now_ms)
        if granted is None or (now_ms >= granted.renew_ms and now_ms >= self.next_ms):
            return None
        return granted


class Authorizations:
    """Makes authorizations and keeps them.

    Args:
        pools: carry requests for those that a provider grants.
        metrics: counts them.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(self, pools: Pools, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        self._pools = pools
        self._metrics = metrics
        self._now_ms = now_ms
        self._kept: dict[Place, _Kept] = {}

    async def get(
        self, bridge: AnyBridge, place: Place, credentials: Credentials
    ) -> Authorization | Refusal:
        """Give one that can be used now, or why there is none."""
        kept = self._kept.get(place)
        if kept is None:
            kept = self._keep(place)
        if (fresh := kept.fresh(self._now_ms())) is not None:
            return fresh
        if kept.making.locked() and (old := kept.usable(self._now_ms())) is not None:
            return old  # somebody renews it ahead of its end
        asked = kept.asked
        async with kept.making:
            if (fresh := kept.fresh(self._now_ms())) is not None:
                return fresh
            if kept.asked != asked and kept.refusal is not None:
                # Who waited does not ask again: in line, each would wait for the one before.
                return kept.refusal
            return await self._renew(bridge, place, credentials, kept)

    def refuse(self, place: Place, refused: Authorization) -> bool:
        """Take it that a provider refused an authorization.

        Returns:
            Whether another try may go better: there is another one, or may be one now.
        """
        kept = self._kept.get(place)
        if kept is None or kept.granted is None or kept.granted.value != refused.value:
            return True
        if self._now_ms() < refused.earliest_ms:
            return False
        kept.over = True
        return True

    async def _renew(
        self, bridge: AnyBridge, place: Place, credentials: Credentials, kept: _Kept
    ) -> Authorization | Refusal:
        made = await self._make(bridge, place, credentials)
        now_ms = self._now_ms()
        kept.asked += 1
        kept.refusal = None if isinstance(made, Authorization) else made
        name = bridge.name
        if isinstance(made, Authorization):
            self._metrics.bridge_authorizations.labels(name, "made").inc()
            kept.granted, kept.over, kept.failures, kept.next_ms = made, False, 0, 0
            return made
        self._metrics.bridge_authorizations.labels(name, "failed").inc()
        kept.failures += 1
        kept.next_ms = now_ms + int(max(_RENEWAL.ceiling_s(kept.failures), _asked_s(made)) * 1000)
        if kept.failures == 1:
            _log.warning(
                "bridge.authorization_failed",
                project=place.account.project,
                bridge=name,
                reason=made.reason,
            )
        old = kept.usable(now_ms)
        return made if old is None else old

    async def _make(
        self, bridge: AnyBridge, place: Place, credentials: Credentials
    ) -> Authorization | Refusal:
        made = bridge.authorize(credentials, place.audience, self._now_ms())
        if isinstance(made, Authorization):
            return made
        try:
            answer = await self._pools.send(bridge, place.account, credentials, made)
        except TransportError as error:
            return RetryAfter(f"authorization: {error}", 0.0, Scope.AUDIENCE)
        return bridge.granted(answer, self._now_ms())

    def _keep(self, place: Place) -> _Kept:
        if len(self._kept) >= _KEPT:
            self._forget()
        kept = self._kept[place] = _Kept()
        return kept

    def _forget(self) -> None:
        """Make room: what ended goes, and the oldest half where that is not enough."""
        now_ms = self._now_ms()
        idle = [place for place, kept in self._kept.items() if not kept.making.locked()]
        ended = [place for place in idle if self._kept[place].usable(now_ms) is None]
        for place in ended or idle[: _KEPT // 2]:
            del self._kept[place]


def _asked_s(refusal: Refusal) -> float:
    return refusal.after_s if isinstance(refusal, RetryAfter) else 0.0
