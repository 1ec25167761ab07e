"""How much a project, a key and an address may ask for: charged before anything is stored.

Before: `gateway.api.resources`. After: `router.store.rates`, whose buckets all API processes share.
What is charged per device and per topic is charged where the message is stored (`lua/enqueue.lua`,
`lua/publish.lua`): here stand the rates alone.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from router.model.errors import QuotaExceededError
from router.model.ids import ProjectId, partition_of_owner
from router.model.limits import UNLIMITED, Bucket, Level, Limit, ProjectLimits, Rate
from router.model.message import Message
from router.policy.rates import Limits, effective, policy
from router.store import keys
from router.store.link import Reply
from router.store.rates import Rates
from router.telemetry.metrics import Metrics

VALID_S: Final = 1.0
"""Tokens that a process took ahead are spent within so many seconds, or are lost."""
AHEAD_S: Final = 0.1
"""So many seconds' worth of a rate are taken ahead at the most."""
SHARE: Final = 8
"""And no more than this part of a burst."""
MIN_SHUT_S: Final = 0.01
MAX_SHUT_S: Final = 1.0
"""A process that found a bucket empty does not ask for so long: a flood costs the store little."""
MAX_REMEMBERED: Final = 10_000

Key = TypeVar("Key")
Value = TypeVar("Value")


class Allowance:
    """Tokens of some buckets that this process may spend; it takes them in blocks.

    A block is twice what was spent of the one before, so at the most half of it is lost: whoever
    sends rarely takes one by one, and a busy project pays one call of the store for hundreds.

    Args:
        rates: where the buckets are.
        buckets: all with one hash tag; none is no limit.
        monotonic: a clock in seconds.
        metrics: counts what was taken.
    """

    __slots__ = (
        "_asked", "_block", "_buckets", "_headers", "_levels", "_metrics", "_missing", "_monotonic",
        "_most", "_rates", "_refill", "_shut_until", "_spent", "_tokens", "_valid_until",
    )  # fmt: skip

    def __init__(
        self,
        rates: Rates,
        buckets: Sequence[Bucket],
        monotonic: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._rates = rates
        self._buckets = buckets
        self._monotonic = monotonic
        self._metrics = metrics
        self._most = min(
            (min(one.rate.per_s * AHEAD_S, one.rate.burst / SHARE) for one in buckets), default=0.0
        )
        self._levels: Sequence[Level] = ()
        self._headers: dict[str, str] = {}
        self._block = self._tokens = self._spent = self._missing = self._asked = 0
        self._valid_until = self._shut_until = 0.0
        self._refill: asyncio.Future[None] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """RateLimit fields of an answer, as of the last block; empty where there is no limit."""
        return self._headers

    async def take(self, wanted: int) -> int:
        """Take `wanted` tokens, or as many as there are, and give how many.

        Raises:
            StoreUnavailableError: the store is away; nothing was taken.
        """
        if not self._buckets:
            return wanted
        taken = self._spend(wanted)
        while taken < wanted and self._monotonic() >= self._shut_until:
            self._missing += wanted - taken
            try:
                await self._refilled()
            except BaseException:
                self.give_back(taken)
                raise
            finally:
                self._missing -= wanted - taken
            taken += self._spend(wanted - taken)
        return taken

    def give_back(self, number: int) -> None:
        """Put back tokens that bought nothing."""
        self._tokens += number
        self._spent -= number

    def refusal(self) -> QuotaExceededError:
        """Say which bucket is empty, and when it will not be."""
        found = zip(self._buckets, self._levels, strict=False)
        bucket, level = max(found, key=lambda one: one[1].wait_s)
        wait_s = max(level.wait_s, self._shut_until - self._monotonic())
        return QuotaExceededError(bucket.limit, bucket.subject, bucket.rate, wait_s)

    def _spend(self, wanted: int) -> int:
        if not self._tokens or self._monotonic() >= self._valid_until:
            return 0
        taken = min(wanted, self._tokens)
        self._tokens -= taken
        self._spent += taken
        return taken

    async def _refilled(self) -> None:
        if self._refill is None:
            self._refill = asyncio.get_running_loop().create_future()
            # A block that ended before its time was too small; of one that did not, the rest is
            # lost.
            used_up = self._monotonic() < self._valid_until
            self._block = min(2 * self._spent if used_up else self._spent, int(self._most))
            self._asked = max(self._missing, self._block)
            call = self._rates.begin_charge(self._buckets, self._asked)
            call.add_done_callback(self._on_charged)
        await asyncio.shield(self._refill)

    def _on_charged(self, call: asyncio.Future[Reply]) -> None:
        refill, self._refill = self._refill, None
        if refill is None or refill.done():  # the loop is closing
            return
        if call.cancelled():
            refill.cancel()
            return
        if (error := call.exception()) is not None:
            refill.set_exception(error)
            refill.exception()  # whoever waits may have gone
            return
        taken, self._levels = self._rates.charged(call.result())
        now = self._monotonic()
        if now >= self._valid_until:
            self._tokens = 0
        self._tokens += taken
        self._spent = 0
        self._valid_until = now + VALID_S
        if taken < self._asked:
            wait_s = max(level.wait_s for level in self._levels)
            self._shut_until = now + min(max(wait_s, MIN_SHUT_S), MAX_SHUT_S)
        for bucket in self._buckets:
            self._metrics.limit_tokens.labels(bucket.limit.value).inc(taken)
        self._headers = self._described()
        refill.set_result(None)

    def _described(self) -> dict[str, str]:
        """Write how the buckets stand; tokens taken ahead are there still."""
        policies, levels = [], []
        for bucket, level in zip(self._buckets, self._levels, strict=True):
            left = level.left + max(self._tokens - self._missing, 0)
            policies.append(policy(bucket.limit, bucket.rate))
            full_s = (bucket.rate.burst - level.left) / bucket.rate.per_s
            levels.append(f'"{bucket.limit.value}";r={left};t={max(1, math.ceil(full_s))}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(levels)}


class Quota:
    """What one key of one project may do.

    Attributes:
        device: what a device takes, wherever it is charged.
        topic: what a topic takes.
    """

    __slots__ = ("_publishes", "_sends", "device", "limits", "topic")

    def __init__(self, sends: Allowance, publishes: Allowance, limits: Limits) -> None:
        self._sends = sends
        self._publishes = publishes
        self.limits = limits
        self.device = limits.device
        self.topic = limits.topic

    @property
    def headers(self) -> dict[str, str]:
        """RateLimit fields of an answer."""
        return self._sends.headers

    async def pay(self, message: Message) -> None:
        """Pay for one message.

        Raises:
            QuotaExceededError: it must not be stored.
            StoreUnavailableError: the store is away.
        """
        if not await self._sends.take(1):
            raise self._sends.refusal()
        if _is_publish(message) and not await self._publishes.take(1):
            self._sends.give_back(1)
            raise self._publishes.refusal()

    async def pay_batch(self, messages: Sequence[Message]) -> list[QuotaExceededError | None]:
        """Pay for several messages, in order, as far as the tokens go.

        Returns:
            For each, why it must not be stored, or None.

        Raises:
            StoreUnavailableError: the store is away.
        """
        publishes = [_is_publish(message) for message in messages]
        sends = await self._sends.take(len(publishes))
        many = await self._publishes.take(sum(publishes[:sends]))
        refusals: list[QuotaExceededError | None] = []
        for number, publish in enumerate(publishes):
            if number >= sends:
                refusals.append(self._sends.refusal())
            elif publish and not many:
                self._sends.give_back(1)
                refusals.append(self._publishes.refusal())
            else:
                many -= publish
                refusals.append(None)
        return refusals


def _is_publish(message: Message) -> bool:
    """Tell whether a message goes to many devices at once."""
    return message.log is not None or message.audience is not None


class _Entry(msgspec.Struct, gc=False):
    overrides: ProjectLimits
    quota: Quota


class Quotas:
    """The allowances of one process.

    Args:
        rates: where the buckets are.
        defaults: what holds where a project sets nothing.
        registrations: what one address may register.
        monotonic: a clock in seconds.
        metrics: of this process.
    """

    def __init__(
        self,
        rates: Rates,
        defaults: Limits,
        registrations: Rate,
        monotonic: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._rates = rates
        self._defaults = defaults
        self._registrations = registrations
        self._monotonic = monotonic
        self._metrics = metrics
        self._quotas: dict[tuple[ProjectId, str], _Entry] = {}
        self._addresses: dict[str, Allowance] = {}

    def of(self, project: ProjectId, key: str, overrides: ProjectLimits) -> Quota:
        """Give what a key may do.

        Args:
            project: whose key it is.
            key: its id.
            overrides: what is set for the project.
        """
        entry = self._quotas.get((project, key))
        if entry is not None and (entry.overrides is overrides or entry.overrides == overrides):
            return entry.quota
        limits = effective(self._defaults, overrides)
        quota = Quota(
            self._allowance(
                self._bucket(Limit.PROJECT, project, f"project:{project}", limits.sends),
                self._bucket(Limit.KEY, project, f"key:{key}", limits.key_sends),
            ),
            self._allowance(
                self._bucket(Limit.PUBLISHES, project, f"project:{project}", limits.publishes)
            ),
            limits,
        )
        _remember(self._quotas, (project, key), _Entry(overrides, quota))
        return quota

    async def register(self, address: str) -> None:
        """Pay for a registration from an address.

        Raises:
            QuotaExceededError: too many came from there.
            StoreUnavailableError: the store is away.
        """
        if self._registrations == UNLIMITED or not address:
            return
        allowance = self._addresses.get(address)
        if allowance is None:
            subject = f"address:{address}"
            bucket = self._bucket(Limit.ADDRESS, address, subject, self._registrations)
            allowance = self._allowance(bucket)
            _remember(self._addresses, address, allowance)
            self._metrics.limit_addresses.labels("api").set(len(self._addresses))
        if not await allowance.take(1):
            raise allowance.refusal()

    def _bucket(self, limit: Limit, owner: str, subject: str, rate: Rate) -> Bucket:
        key = keys.rate(partition_of_owner(owner), f"{limit.value}:{subject.partition(':')[2]}")
        return Bucket(limit, subject, key, rate)

    def _allowance(self, *buckets: Bucket) -> Allowance:
        limiting = tuple(bucket for bucket in buckets if bucket.rate != UNLIMITED)
        return Allowance(self._rates, limiting, self._monotonic, self._metrics)


def _remember(memory: dict[Key, Value], key: Key, value: Value) -> None:
    """Put an entry last, and let the oldest go where there are too many."""
    memory.pop(key, None)
    if len(memory) >= MAX_REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value
