"""Timers of a partition: what was not acked, what expires, what is to be sent later.

Before: the store's functions, which set the timers. After: `router.store.mailbox`, and
`router.routing` where a session is to be woken. A timer stands until its transition removes it or
sets it anew, so a worker that dies between loses none.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from router.model.errors import PushError, StoreRefusedError, StoreUnavailableError
from router.model.hint import Deliver, Resubscribe, Wake
from router.model.ids import DeviceId, MessageId, Partition, ShardId
from router.policy.frame import lane_of_frame
from router.policy.limits import WINDOW
from router.routing import Routing
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.timers import EXPIRE, LAPSE, REDELIVER, SEND, TOPICS, Timers
from router.telemetry.metrics import Metrics

_SHARDS_CACHE_MS: Final = 1000
_REFUSED_MS: Final = 5_000
"""A timer that the store refuses, as it is out of memory, comes again after this."""
_BROKEN_MS: Final = 60_000
"""And one whose transition fails."""

Step = Callable[[str, int], Awaitable[None]]
"""Carries out a timer: of its subject, at a time in epoch milliseconds."""

_log = structlog.stdlib.get_logger(__name__)


class Redelivery:
    """Carries out the due timers of a partition.

    Args:
        timers: what is due.
        mailboxes: the transitions.
        leases: which shards live; read at most once a second.
        routing: how sessions are woken.
        metrics: counts timers by kind.
        now_ms: the clock, epoch milliseconds.
        more: steps of other stages, by the kind of their timers.
    """

    def __init__(
        self,
        timers: Timers,
        mailboxes: Mailboxes,
        leases: Leases,
        routing: Routing,
        metrics: Metrics,
        now_ms: Callable[[], int],
        more: Mapping[str, Step] | None = None,
    ) -> None:
        self._timers = timers
        self._mailboxes = mailboxes
        self._leases = leases
        self._routing = routing
        self._metrics = metrics
        self._now_ms = now_ms
        self._shards: frozenset[ShardId] = frozenset()
        self._shards_until_ms = 0
        self._steps: dict[str, Step] = {
            **(more or {}),
            REDELIVER: self._redeliver,
            EXPIRE: self._expire,
            SEND: self._send,
            LAPSE: self._lapse,
            TOPICS: self._remind,
        }

    async def run_once(self, partition: Partition, worker: str) -> int:
        """Carry out one window of due timers, those of the worker's own partition alone.

        One that fails is put off: a window of such timers must not stand before all others.

        Returns:
            How many were due; more wait where it is a full window.

        Raises:
            StoreUnavailableError: the store is away; the timers stand.
        """
        now_ms = self._now_ms()
        due = await self._timers.due(partition, worker, now_ms, WINDOW)
        if not due:
            return 0
        await self._look_for_shards(now_ms)
        failures: list[StoreUnavailableError] = []
        async with asyncio.TaskGroup() as tasks:
            for kind, subject in due:
                tasks.create_task(self._step(partition, kind, subject, now_ms, failures))
        refused = [failure for failure in failures if isinstance(failure, StoreRefusedError)]
        if len(refused) < len(failures):
            raise next(failure for failure in failures if failure not in refused)
        if refused:
            _log.warning("timers.refused", timers=len(refused), reason=refused[0].message)
        return len(due)

    async def _step(
        self,
        partition: Partition,
        kind: str,
        subject: str,
        now_ms: int,
        failures: list[StoreUnavailableError],
    ) -> None:
        step = self._steps.get(kind)
        try:
            if step is None:
                _log.error("timer.unknown", kind=kind)
                await self._timers.done(partition, kind, subject, now_ms)
                return
            await step(subject, now_ms)
        except StoreRefusedError as error:
            failures.append(error)
            await self._put_off(partition, kind, subject, now_ms + _REFUSED_MS)
        except StoreUnavailableError as error:
            failures.append(error)
        except Exception:  # noqa: BLE001 - one broken mailbox must not stop the others' timers
            _log.exception("timer.failed", kind=kind, subject=subject)
            await self._put_off(partition, kind, subject, now_ms + _BROKEN_MS)
        else:
            self._metrics.timers.labels(kind).inc()

    async def _put_off(self, partition: Partition, kind: str, subject: str, until_ms: int) -> None:
        self._metrics.partition_errors.labels("timers").inc()
        with contextlib.suppress(PushError):  # it is due still, and comes again at once
            await self._timers.put_off(partition, kind, subject, until_ms)

    async def _redeliver(self, subject: str, now_ms: int) -> None:
        device = DeviceId(subject)
        route = await self._mailboxes.redeliver(device, now_ms)
        # A route to a dead shard counts as offline; a late one only costs a hint.
        if route is not None and route.shard in self._shards:
            self._routing.hint(route, Wake(device, route.epoch))

    async def _expire(self, subject: str, now_ms: int) -> None:
        """End what expired in one window; where more is due the timer stays due."""
        await self._mailboxes.expire(DeviceId(subject), now_ms)

    async def _send(self, subject: str, now_ms: int) -> None:
        released = await self._mailboxes.release(MessageId(subject), now_ms)
        if released is None or (route := released.route) is None:
            return
        hint = Deliver(
            released.device,
            route.epoch,
            released.seq,
            released.message,
            released.expires_ms,
            released.frame,
            lane_of_frame(released.frame),
        )
        self._routing.hint(route, hint)

    async def _lapse(self, subject: str, now_ms: int) -> None:
        await self._mailboxes.lapse(MessageId(subject), now_ms)

    async def _remind(self, subject: str, now_ms: int) -> None:
        device = DeviceId(subject)
        route = await self._mailboxes.remind(device, now_ms)
        if route is not None and route.shard in self._shards:
            self._routing.hint(route, Resubscribe(device, route.epoch))

    async def _look_for_shards(self, now_ms: int) -> None:
        # A clock that went back must not keep an old answer alive. Partitions that look at the same
        # time each ask: to those that took the answer for known, no shard would live.
        if not now_ms < self._shards_until_ms <= now_ms + _SHARDS_CACHE_MS:
            self._shards = frozenset(await self._leases.shards())
            self._shards_until_ms = now_ms + _SHARDS_CACHE_MS
