"""Whether credentials are good: an authorization and a harmless request, through the same pools.

Called before a project's bridge is set up, and by `bridge test`.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from router.bridge import (
    AnyBridge,
    Authorization,
    BadAddress,
    Credentials,
    Delivered,
    Outcome,
    RetryAfter,
    Unregistered,
)
from router.bridging.authorizations import Authorizations, Place, Refusal
from router.bridging.pools import Account, Pools
from router.bridging.transport import TransportError
from router.model.ids import ProjectId
from router.telemetry.metrics import Metrics

_GOOD: Final = (Delivered, Unregistered, BadAddress)
_NO_REQUEST: Final = "the key is well formed; this provider offers nothing to try it with"


class Verdict(msgspec.Struct, frozen=True):
    """What is known of credentials now."""

    good: bool
    says: str
    """What the provider said, or why it was not asked."""
    refused: bool = False
    """Whether the provider refused them; else, where they are not good, it could not be asked."""


class Prober:
    """Tries credentials: `await Prober(…).probe(…)`, from any process.

    Args:
        metrics: counts connections and authorizations.
        now_ms: the clock, epoch milliseconds.
        timeout_s: what each of its requests may take.
        connect_s: what a connection may take to be made.
        allow_private: as callbacks have it.
    """

    def __init__(
        self,
        metrics: Metrics,
        now_ms: Callable[[], int],
        timeout_s: float = 10.0,
        connect_s: float = 5.0,
        *,
        allow_private: bool = False,
    ) -> None:
        self._metrics = metrics
        self._now_ms = now_ms
        self._timeout_s, self._connect_s = timeout_s, connect_s
        self._allow_private = allow_private

    async def probe(
        self, project: ProjectId, bridge: AnyBridge, credentials: Credentials
    ) -> Verdict:
        """Try credentials with connections of their own; ends within a few time-outs."""
        pools = Pools(
            self._timeout_s,
            self._connect_s,
            allow_private=self._allow_private,
            metrics=self._metrics,
        )
        account = Account(project, bridge.name, 0)
        async with pools:
            authorizations = Authorizations(pools, self._metrics, self._now_ms)
            place = Place(account, bridge.audience(credentials, None))
            made = await authorizations.get(bridge, place, credentials)
            if not isinstance(made, Authorization):
                return _refusal(made)
            request = bridge.probe(credentials, made, self._now_ms())
            if request is None:
                return Verdict(True, _NO_REQUEST)
            try:
                answer = await pools.send(bridge, account, credentials, request)
            except TransportError as error:
                return Verdict(False, f"{request.origin} gives no answer: {error}")
            return _verdict(request.origin, bridge.read(answer, self._now_ms()))


def _refusal(refused: Refusal) -> Verdict:
    if isinstance(refused, RetryAfter):
        return Verdict(False, f"no authorization could be had: {refused.reason}")
    return Verdict(False, f"the authorization is refused: {refused.reason}", refused=True)


def _verdict(origin: str, outcome: Outcome) -> Verdict:
    if isinstance(outcome, _GOOD):
        return Verdict(True, f"{origin} takes them")
    if isinstance(outcome, RetryAfter):
        return Verdict(False, f"{origin} cannot say now: {outcome.reason}")
    return Verdict(False, f"{origin} refuses them: {outcome.reason}", refused=True)
