"""One attempt to push a message to a device, and what follows from its outcome.

Before: `router.bridging.dispatch`, which took the job. After: `router.bridging.results`, which
stores what this returns; dead letters, addresses and suspensions are dealt with here.
"""

from typing import Final

import msgspec
import structlog

from router.bridge import (
    AnyBridge,
    Authorization,
    BadAddress,
    Content,
    Credentials,
    Delivered,
    Misconfigured,
    Outcome,
    Reauthorize,
    Recipient,
    Rejected,
    RetryAfter,
    Scope,
    TooLarge,
    Unregistered,
    Unsendable,
)
from router.bridging.authorizations import Place
from router.bridging.consequences import SUSPENDED_MS, Consequences, Parts, Tried
from router.bridging.health import Audience
from router.bridging.letters import EXHAUSTED, REJECTED
from router.bridging.pools import Account
from router.bridging.results import Result
from router.bridging.transport import ForbiddenError, TransportError
from router.model.errors import PushError
from router.model.push import Push
from router.policy import bridge_part
from router.policy.push_retry import ATTEMPTS
from router.store.bridge_jobs import Failed, Job, Lane, Later

MOST_FOREIGN: Final = 500
"""Pushes under way to one host that devices named."""
_BUSY_MS: Final = 2_000
_BROKEN_MS: Final = 60_000
_CONTENTS: Final = 256
"""Contents of messages to many that are kept, so that each is made once."""

_log = structlog.stdlib.get_logger(__name__)


class Attempts:
    """Makes attempts."""

    def __init__(self, parts: Parts, bridges: dict[str, AnyBridge]) -> None:
        self._parts = parts
        self._consequences = Consequences(parts)
        self._bridges = bridges
        self._contents: dict[tuple[str, str], tuple[Push, Content]] = {}

    async def make(self, lane: Lane, job: Job) -> Result:
        """Try a push once, and tell what is to be stored of it.

        Raises:
            StoreUnavailableError: what follows could not be stored; the job comes back by itself.
        """
        bridge = self._bridges.get(lane.bridge)
        known = await self._credentials(lane)
        if bridge is None or known is None:
            if await self._parts.directory.has(lane.project, lane.bridge):
                return self._consequences.wait(
                    job, SUSPENDED_MS, "its credentials cannot be opened"
                )
            return Failed(job.kept, f"the project has no bridge {lane.bridge}", self._now())
        generation, credentials = known
        try:
            address = bridge.address(msgspec.json.decode(job.address))
        except (PushError, msgspec.MsgspecError):
            return await self._consequences.lose_address(lane, job, "the address cannot be read")
        place = Place(
            Account(lane.project, lane.bridge, generation), bridge.audience(credentials, address)
        )
        audience = self._parts.health.of(place)
        if (held := self._hold(bridge, place, audience, job)) is not None:
            return held
        made = self._content(bridge, job)
        if isinstance(made, str):
            return await self._consequences.bury(lane, job, REJECTED, made)
        tried = Tried(lane, job, bridge, place, credentials, address, *made)
        tried.probe = audience.breaker.begin(self._now())
        audience.under_way += 1
        judged = False
        try:
            outcome = await self._outcome(tried)
            judged = self._judge(tried, audience, outcome)
        finally:
            audience.under_way -= 1
            if not judged:
                audience.breaker.gave_up(probe=tried.probe)
        return await self._consequences.follow(tried, audience, outcome)

    async def broke(self, lane: Lane, job: Job) -> Result:
        """Tell what is to be stored of a push at which the gateway itself failed.

        Raises:
            StoreUnavailableError: as `make`.
        """
        told = "an error in the gateway"
        if job.attempts + 1 >= ATTEMPTS:
            return await self._consequences.bury(lane, job, EXHAUSTED, told)
        return Later(job.kept, self._now() + _BROKEN_MS, told, counts=True)

    def _now(self) -> int:
        return self._parts.now_ms()

    async def _credentials(self, lane: Lane) -> tuple[int, Credentials] | None:
        directory = self._parts.directory
        found = directory.credentials(lane.project, lane.bridge)
        if found is None and await directory.has(lane.project, lane.bridge):
            found = directory.credentials(lane.project, lane.bridge)
        return found

    def _hold(self, bridge: AnyBridge, place: Place, audience: Audience, job: Job) -> Later | None:
        """Put off what may not go now."""
        now_ms = self._now()
        if self._parts.health.is_suspended(place):
            return self._consequences.wait(job, SUSPENDED_MS, "the bridge is suspended")
        if audience.breaker.room(now_ms) == 0:
            wait_ms = audience.breaker.wait_ms(now_ms)
            late_ms = wait_ms + int(self._parts.uniform(0, _BUSY_MS))
            return Later(job.kept, now_ms + late_ms, "the provider fails", counts=False)
        if bridge.foreign_hosts and audience.under_way >= MOST_FOREIGN:
            return self._consequences.wait(job, _BUSY_MS, "the provider is busy")
        wait_ms = self._parts.rates.take_device(bridge, job.device, now_ms)
        if wait_ms:
            return Later(job.kept, now_ms + wait_ms, "the device's rate", counts=False)
        return None

    def _content(self, bridge: AnyBridge, job: Job) -> tuple[Push, Content] | str:
        """Give what a message is to a provider, or why it cannot be sent."""
        key = (job.message, bridge.name)
        if (known := self._contents.get(key)) is not None:
            return known
        try:
            push = bridge_part.unpack(job.frame, job.part)
        except msgspec.MsgspecError:
            return "the stored message cannot be read"
        content = bridge.content(push)
        if isinstance(content, TooLarge):
            return f"the payload has {content.size} bytes, of {content.limit} at most"
        if isinstance(content, Unsendable):
            return "; ".join(f"{each.field}: {each.description}" for each in content.violations)
        if job.topic:
            if len(self._contents) >= _CONTENTS:
                self._contents.pop(next(iter(self._contents)))
            self._contents[key] = push, content
        return push, content

    async def _outcome(self, tried: Tried) -> Outcome:
        """Send a push; once more where the authorization turns out to be over."""
        authorizations = self._parts.authorizations
        for last in (False, True):
            got = await authorizations.get(tried.bridge, tried.place, tried.credentials)
            if not isinstance(got, Authorization):
                return got
            outcome = await self._send(tried, got)
            if not isinstance(outcome, Reauthorize):
                return outcome
            if last or not authorizations.refuse(tried.place, got):
                return Misconfigured(outcome.reason)
        raise AssertionError  # the second round returns

    async def _send(self, tried: Tried, authorization: Authorization) -> Outcome:
        parts, bridge = self._parts, tried.bridge
        now_ms = self._now()
        entropy = parts.entropy(bridge.entropy_bytes) if bridge.entropy_bytes else b""
        recipient = Recipient(tried.job.device, tried.address)
        request = bridge.encode(
            tried.content, tried.credentials, recipient, authorization, now_ms, entropy
        )
        try:
            answer = await parts.pools.send(bridge, tried.place.account, tried.credentials, request)
        except ForbiddenError as error:
            return BadAddress(str(error))
        except TransportError as error:
            # Whatever cuts all connections is an outage too: it must not use up the tries of all.
            return RetryAfter(str(error), 0.0, Scope.AUDIENCE)
        ended_ms = self._now()
        parts.metrics.bridge_seconds.labels(bridge.name).observe(max(0, ended_ms - now_ms) / 1000)
        return bridge.read(answer, ended_ms)

    def _judge(self, tried: Tried, audience: Audience, outcome: Outcome) -> bool:
        """Tell the breaker; True, so that it is told once."""
        name, now_ms = tried.bridge.name, self._now()
        self._parts.metrics.bridge_pushes.labels(name, _label(outcome)).inc()
        if isinstance(outcome, RetryAfter) and outcome.scope is Scope.AUDIENCE:
            after_ms = int(outcome.after_s * 1000)
            opened = audience.breaker.failed(
                now_ms, after_ms, self._parts.uniform, probe=tried.probe
            )
            if opened:
                _log.warning(
                    "bridge.breaker_opened",
                    project=tried.lane.project,
                    bridge=name,
                    audience=tried.place.audience,
                    reason=outcome.reason,
                    wait_s=audience.breaker.wait_ms(now_ms) / 1000,
                )
        else:
            audience.breaker.succeeded(probe=tried.probe)
        if isinstance(outcome, Delivered | Unregistered):
            audience.suspicion.good(now_ms)
        return True


_LABELS: Final[dict[type, str]] = {
    Delivered: "delivered",
    Unregistered: "unregistered",
    BadAddress: "bad_address",
    RetryAfter: "retry",
    Reauthorize: "misconfigured",
    Misconfigured: "misconfigured",
    Rejected: "rejected",
}


def _label(outcome: Outcome) -> str:
    return _LABELS[type(outcome)]
