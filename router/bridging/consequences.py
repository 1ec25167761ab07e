"""What follows from the outcome of a push: a receipt, another try, a lost address, a dead letter.

Before: `router.bridging.attempts`. After: `router.bridging.results`, which stores what this gives.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from router.bridge import (
    Address,
    AnyBridge,
    BadAddress,
    Content,
    Credentials,
    Delivered,
    Misconfigured,
    Outcome,
    Reauthorize,
    Rejected,
    RetryAfter,
    Scope,
    Unregistered,
)
from router.bridging.authorizations import Authorizations, Place
from router.bridging.directory import Directory
from router.bridging.health import Audience, Health
from router.bridging.letters import EXHAUSTED, EXPIRED, REJECTED, letter_of
from router.bridging.pools import Pools
from router.bridging.rates import Rates
from router.bridging.results import Result
from router.model.push import Push
from router.policy.push_retry import ATTEMPTS, ends_ms, next_try_ms
from router.policy.retry import Uniform
from router.policy.suspicion import Fault
from router.store.bridge_jobs import Bridged, BridgeJobs, Failed, Job, Lane, Later
from router.store.dead_letters import DeadLetters
from router.telemetry.metrics import Metrics

SUSPENDED_MS: Final = 60_000
"""A push that finds its bridge suspended is looked at again within this."""

_log = structlog.stdlib.get_logger(__name__)


class Parts(msgspec.Struct, frozen=True):
    """What attempts are made with."""

    pools: Pools
    directory: Directory
    authorizations: Authorizations
    health: Health
    rates: Rates
    jobs: BridgeJobs
    letters: DeadLetters
    metrics: Metrics
    now_ms: Callable[[], int]
    uniform: Uniform
    entropy: Callable[[int], bytes]


class Tried(msgspec.Struct, gc=False):
    """A push that is being tried."""

    lane: Lane
    job: Job
    bridge: AnyBridge
    place: Place
    credentials: Credentials
    address: Address
    push: Push
    content: Content
    probe: bool = False
    """Whether its breaker is half open."""


class Consequences:
    """Deals with outcomes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def follow(self, tried: Tried, audience: Audience, outcome: Outcome) -> Result:
        """Do what an outcome asks for, and tell what is to be stored of the push.

        Raises:
            StoreUnavailableError: it could not be done; the job comes back by itself.
        """
        match outcome:
            case Delivered():
                return self._bridged(tried, outcome)
            case Unregistered() | BadAddress():
                return await self._of_address(tried, audience, outcome)
            case RetryAfter():
                return await self._retry(tried, outcome)
            case Misconfigured() | Reauthorize():
                return await self._refused(tried, outcome)
            case Rejected():
                return await self.bury(tried.lane, tried.job, REJECTED, outcome.reason)

    def wait(self, job: Job, most_ms: int, reason: str) -> Later:
        """Put a push off that was not tried: half to all of `most_ms`."""
        wait_ms = int(self._parts.uniform(most_ms / 2, most_ms))
        return Later(job.kept, self._now() + max(1, wait_ms), reason, counts=False)

    async def lose_address(self, lane: Lane, job: Job, reason: str) -> Failed:
        """Take an address from a device, unless it has another one by now."""
        parts, now_ms = self._parts, self._now()
        if await parts.jobs.drop_address(job.device, job.br, reason, now_ms):
            parts.metrics.bridge_addresses_dropped.labels(lane.bridge).inc()
        return Failed(job.kept, reason, now_ms)

    async def bury(self, lane: Lane, job: Job, reason: str, error: str) -> Failed:
        """Give a push up, and keep it as a dead letter."""
        parts, now_ms = self._parts, self._now()
        lost = await parts.letters.keep(letter_of(lane, job, reason, error, now_ms))
        parts.metrics.bridge_dead.labels(lane.bridge, reason).inc()
        parts.metrics.dead_letters_lost.inc(lost)
        return Failed(job.kept, f"{reason}: {error}", now_ms, buried=True)

    def _now(self) -> int:
        return self._parts.now_ms()

    def _bridged(self, tried: Tried, outcome: Delivered) -> Bridged:
        now_ms, job = self._now(), tried.job
        age_s = max(0, now_ms - job.ready_ms) / 1000
        self._parts.metrics.bridge_age.labels(tried.lane.bridge).observe(age_s)
        return Bridged(job.kept, outcome.id, now_ms)

    async def _of_address(
        self, tried: Tried, audience: Audience, outcome: Unregistered | BadAddress
    ) -> Result:
        if isinstance(outcome, BadAddress):
            fault = self._fault(tried, audience)
            if fault is Fault.CREDENTIALS:
                told = f"{outcome.reason}: nearly all addresses are refused"
                return await self._suspend(tried, told)
            if fault is Fault.UNKNOWN:
                return Failed(tried.job.kept, outcome.reason, self._now())
        elif not outcome.concerns(tried.job.registered_ms):
            # It was registered again since; what the provider knows will catch up.
            return await self._retry(tried, RetryAfter(outcome.reason))
        return await self.lose_address(tried.lane, tried.job, outcome.reason)

    def _fault(self, tried: Tried, audience: Audience) -> Fault:
        """Tell whose fault a bad address is; of audiences that devices choose never ours."""
        own = tried.bridge.audience(tried.credentials, None) == tried.place.audience
        given_ms = self._parts.directory.changed_ms(tried.lane.project, tried.lane.bridge)
        now_ms = self._now()
        return audience.suspicion.bad(tried.address.identity, now_ms, given_ms if own else 0)

    async def _retry(self, tried: Tried, outcome: RetryAfter) -> Result:
        job, push, now_ms = tried.job, tried.push, self._now()
        if outcome.scope is Scope.DEVICE and outcome.after_s:
            until_ms = now_ms + int(outcome.after_s * 1000)
            self._parts.rates.block_device(tried.bridge, job.device, until_ms, now_ms)
        # A provider that is being probed says nothing of the push that was used for it.
        counts = not (tried.probe and outcome.scope is Scope.AUDIENCE)
        attempts = job.attempts + counts
        last_ms = ends_ms(job.ready_ms, job.ready_ms if push.now_or_never else push.expires_ms)
        again_ms = next_try_ms(attempts, outcome.after_s, now_ms, last_ms, self._parts.uniform)
        if again_ms is None:
            reason = EXHAUSTED if attempts >= ATTEMPTS else EXPIRED
            return await self.bury(tried.lane, job, reason, outcome.reason)
        return Later(job.kept, again_ms, outcome.reason, counts)

    async def _refused(self, tried: Tried, outcome: Misconfigured | Reauthorize) -> Result:
        if isinstance(outcome, Misconfigured) and not outcome.suspend:
            _log.error(
                "bridge.misconfigured",
                project=tried.lane.project,
                bridge=tried.lane.bridge,
                reason=outcome.reason,
            )
            return await self.bury(tried.lane, tried.job, REJECTED, outcome.reason)
        return await self._suspend(tried, outcome.reason)

    async def _suspend(self, tried: Tried, reason: str) -> Later:
        await self._parts.health.suspend(tried.place, reason)
        return self.wait(tried.job, SUSPENDED_MS, f"the bridge is suspended: {reason}")
