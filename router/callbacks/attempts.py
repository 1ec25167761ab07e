"""One attempt: a signed request, what its answer means, and what follows from it.

Before: `router.callbacks.delivery`. After: the next attempt, or a dead letter.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from router.callbacks.client import Answer, Client
from router.model.webhook import Attempt, Callback, DeadLetter, Kind, Webhook
from router.policy import signing
from router.policy.callbacks import (
    Outcome,
    Uniform,
    explain,
    next_attempt_ms,
    outcome_of,
    retry_after_ms,
)
from router.store.callbacks import Lanes
from router.store.dead_letters import DeadLetters
from router.store.webhooks import Webhooks
from router.telemetry.metrics import Metrics

EXHAUSTED: Final = "exhausted"
DISABLED: Final = "disabled"
GONE: Final = "the endpoint answered 410 Gone"

_log = structlog.stdlib.get_logger(__name__)


class _Type(msgspec.Struct):
    type: str


class Verdict(enum.Enum):
    """What is to happen with a lane after an attempt."""

    DELIVERED = enum.auto()
    LATER = enum.auto()
    BURIED = enum.auto()


class Attempts:
    """Makes attempts and notes those that fail.

    Args:
        client: makes the requests.
        webhooks: where endpoints are disabled.
        lanes: where failures are noted.
        letters: where callbacks end that are given up.
        metrics: of callbacks.
        now_ms: the clock, epoch milliseconds.
        uniform: draws the jitter.
    """

    def __init__(
        self,
        client: Client,
        webhooks: Webhooks,
        lanes: Lanes,
        letters: DeadLetters,
        metrics: Metrics,
        now_ms: Callable[[], int],
        uniform: Uniform,
    ) -> None:
        self._client = client
        self._webhooks = webhooks
        self._lanes = lanes
        self._letters = letters
        self._metrics = metrics
        self._now_ms = now_ms
        self._uniform = uniform

    async def make(self, webhook: Webhook, lane: int, callback: Callback) -> Verdict:
        """Make one attempt. A disabled endpoint is not asked: its callbacks are dead letters.

        Raises:
            StoreUnavailableError: what follows from the answer could not be stored.
        """
        if webhook.disabled_ms:
            await self._bury(webhook, lane, callback, DISABLED, callback.history)
            return Verdict.BURIED
        begun_ms = self._now_ms()
        answer = await self._client.post(
            webhook.url,
            signing.headers(
                webhook.valid_secrets(begun_ms), callback.id, begun_ms // 1000, callback.body
            ),
            callback.body,
        )
        now_ms = self._now_ms()
        self._metrics.callback_seconds.observe(max(0, now_ms - begun_ms) / 1000)
        outcome = outcome_of(answer.status)
        if outcome is Outcome.DELIVERED:
            self._metrics.callbacks.labels("delivered").inc()
            self._metrics.callback_receipts.inc(callback.receipts)
            return Verdict.DELIVERED
        self._metrics.callbacks.labels("refused" if answer.refused else "failed").inc()
        history = (*callback.history, _attempt(answer, begun_ms))
        if outcome is Outcome.GONE:
            _log.warning("webhook.disabled", webhook=webhook.id, reason=GONE)
            await self._webhooks.disable(webhook, now_ms, GONE)
        return await self._follow(webhook, lane, callback, answer, history)

    async def _follow(
        self,
        webhook: Webhook,
        lane: int,
        callback: Callback,
        answer: Answer,
        history: Sequence[Attempt],
    ) -> Verdict:
        """Store what follows from a failure."""
        now_ms = self._now_ms()
        gone = outcome_of(answer.status) is Outcome.GONE
        asked_ms = retry_after_ms(answer.retry_after, now_ms) if answer.retry_after else 0
        again_ms = (
            None if gone else next_attempt_ms(callback.created_ms, now_ms, asked_ms, self._uniform)
        )
        # The health of the endpoint is noted in the same step, for the last attempt too.
        await self._lanes.failed(webhook.id, lane, callback.id, again_ms or now_ms, history)
        if again_ms is not None:
            if not callback.history:
                _log.info("callback.failed", webhook=webhook.id, error=history[-1].error)
            return Verdict.LATER
        await self._bury(webhook, lane, callback, DISABLED if gone else EXHAUSTED, history)
        return Verdict.BURIED

    async def _bury(
        self,
        webhook: Webhook,
        lane: int,
        callback: Callback,
        reason: str,
        history: Sequence[Attempt],
    ) -> None:
        letter = DeadLetter(
            id=callback.id,
            webhook=webhook.id,
            lane=lane,
            kind=_kind(callback),
            receipts=callback.receipts,
            created_ms=callback.created_ms,
            died_ms=self._now_ms(),
            reason=reason,
            history=tuple(history),
            body=callback.body,
        )
        lost = await self._letters.bury(letter)
        if lost is not None:
            self._metrics.callbacks_dead.labels(reason).inc()
            self._metrics.dead_letters_lost.inc(lost)
            _log.warning("callback.dead", webhook=webhook.id, callback=callback.id, reason=reason)


def _attempt(answer: Answer, begun_ms: int) -> Attempt:
    return Attempt(begun_ms, answer.status, answer.error or explain(answer.status))


def _kind(callback: Callback) -> str:
    if callback.receipts:
        return Kind.RECEIPTS.value
    return msgspec.json.decode(callback.body, type=_Type).type
