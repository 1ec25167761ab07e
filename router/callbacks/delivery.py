"""From the lanes to the endpoints: callbacks, signed, one at a time in each lane.

Before: `router.callbacks.feed`. After: `router.callbacks.client`, and `router.store.dead_letters`
for what is given up. The owner of a partition sends for the webhooks of that partition. A lane that
was taken is held for as long as a request may take; when its worker dies, the next one finds it
due after that, with the same callback at its head.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

import structlog

from router.callbacks.attempts import Attempts, Verdict
from router.callbacks.bodies import Bodies
from router.callbacks.client import Client
from router.callbacks.directory import Directory
from router.callbacks.shares import Shares
from router.model.errors import PushError, StoreUnavailableError
from router.model.ids import Partition
from router.model.webhook import Webhook, partition_of_webhook
from router.policy.limits import WINDOW
from router.policy.retry import Backoff
from router.store.callbacks import Lanes
from router.store.dead_letters import DeadLetters
from router.store.webhooks import Webhooks
from router.telemetry.metrics import Metrics

MAX_REQUESTS: Final = 512
"""Requests of one worker that are under way at once."""
_POLL_S: Final = 0.1
_UPKEEP_S: Final = 5.0
_SWEEP_ROUNDS: Final = 600
"""So often all partitions are looked at: for lanes whose webhook is gone."""
_CROWDED_MS: Final = 500
"""A lane that finds no place is looked at again after so long."""
_SLACK_MS: Final = 3_000
_STOP_S: Final = 5.0
_RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)

_log = structlog.stdlib.get_logger(__name__)


class Delivery:
    """Sends callbacks for the webhooks of the partitions that a worker owns.

    Args:
        worker: name of this worker, as its leases have it.
        owned: gives the partitions that it owns.
        webhooks: where orphans are purged.
        lanes: what waits.
        letters: what was given up.
        directory: where to send, and with which secrets.
        client: makes the requests.
        attempts: judges their answers.
        metrics: of callbacks.
        now_ms: the clock, epoch milliseconds.
        new_id: makes the id of a callback.
        timeout_s: what a request may take.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the top of the stage: it holds its parts
        self,
        worker: str,
        owned: Callable[[], Collection[Partition]],
        webhooks: Webhooks,
        lanes: Lanes,
        letters: DeadLetters,
        directory: Directory,
        client: Client,
        attempts: Attempts,
        metrics: Metrics,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
        timeout_s: float,
    ) -> None:
        self._worker = worker
        self._owned = owned
        self._webhooks = webhooks
        self._lanes = lanes
        self._letters = letters
        self._directory = directory
        self._client = client
        self._attempts = attempts
        self._metrics = metrics
        self._now_ms = now_ms
        self._new_id = new_id
        self._hold_ms = int(timeout_s * 1000) + _SLACK_MS
        self._bodies = Bodies()
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._shares = Shares(MAX_REQUESTS)
        self._failing: set[str] = set()
        self._stopping = False
        self._round = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until told to stop; requests under way then have a few seconds."""
        failures = 0
        async with self._client, asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._directory.run()), tasks.create_task(self._keep_up())]
            while not stopping.is_set():
                try:
                    await self._start_due(tasks)
                    failures = 0
                except PushError as error:
                    failures += 1
                    if failures == 1:
                        _log.warning("callbacks.wait", reason=error.message)
                except Exception:  # noqa: BLE001 - a defect must not end what is sent elsewhere
                    failures += 1
                    _log.exception("callbacks.failed")
                await _until(stopping, _RETRY.ceiling_s(failures) if failures else _POLL_S)
            self._stopping = True
            for task in beside:
                task.cancel()
            if self._tasks:
                await asyncio.wait(list(self._tasks.values()), timeout=_STOP_S)
            for task in list(self._tasks.values()):
                task.cancel()

    async def _start_due(self, tasks: asyncio.TaskGroup) -> None:
        """Look at the lanes of the worker's partitions, and start those that are due."""
        if not self._directory.is_loaded:
            return
        owned = set(self._owned())
        self._round += 1
        if self._round % _SWEEP_ROUNDS:
            owned &= {partition_of_webhook(webhook) for webhook in self._directory.by_id}
        now_ms = self._now_ms()
        asked = []
        try:
            async with asyncio.TaskGroup() as asking:
                for partition in owned:
                    due = self._lanes.due(partition, self._worker, now_ms, WINDOW)
                    asked.append(asking.create_task(due))
        except* PushError as group:
            raise StoreUnavailableError from group
        for found in asked:
            for webhook, lane in found.result():
                await self._start(tasks, webhook, lane)

    async def _start(self, tasks: asyncio.TaskGroup, webhook: str, lane: int) -> None:
        now_s = asyncio.get_running_loop().time()
        if (webhook, lane) in self._tasks:
            return
        if not self._shares.admits(webhook, now_s):
            # A window of due lanes must not be full of those that may not begin.
            await self._lanes.put_off(webhook, lane, self._now_ms() + _CROWDED_MS)
            return
        if webhook in self._failing and self._busy[webhook]:
            # One lane finds out whether the endpoint answers again; then it wakes the others.
            await self._lanes.put_off(webhook, lane, self._now_ms() + self._hold_ms)
            return
        self._busy[webhook] += 1
        self._shares.begin(webhook, lane, now_s)
        self._tasks[(webhook, lane)] = tasks.create_task(self._run_lane(webhook, lane))

    async def _run_lane(self, webhook: str, lane: int) -> None:
        """Send callbacks of a lane until none is ready or one fails."""
        partition, loop = partition_of_webhook(webhook), asyncio.get_running_loop()
        try:
            while not self._stopping and partition in self._owned():
                self._shares.begin(webhook, lane, loop.time())
                if not await self._step(webhook, lane):
                    return
                if self._shares.yields(webhook, loop.time()):
                    return
        except StoreUnavailableError:
            _log.info("callback.waits", webhook=webhook)
        except Exception:  # noqa: BLE001 - of this lane alone; it is due again after its hold
            _log.exception("callback.broken", webhook=webhook)
        finally:
            del self._tasks[(webhook, lane)]
            self._shares.end(webhook, lane)
            self._busy[webhook] -= 1
            if not self._busy[webhook]:
                del self._busy[webhook]

    async def _step(self, name: str, lane: int) -> bool:
        """Deal with the callback at the head of a lane; False where the lane is to wait."""
        await self._directory.refresh()  # nothing goes to where the webhook no longer points
        webhook = self._directory.by_id.get(name)
        if webhook is None:
            await self._purge(name)
            return False
        now_ms = self._now_ms()
        around = self._bodies.around(webhook.project, now_ms)
        callback = await self._lanes.take(name, lane, self._new_id(), now_ms, self._hold_ms, around)
        if callback is None:
            return False
        verdict = await self._attempts.make(webhook, lane, callback)
        self._shares.answered(name, lane, asyncio.get_running_loop().time())
        if verdict is Verdict.DELIVERED:
            await self._delivered(webhook, lane, callback.id)
        elif verdict is Verdict.LATER:
            self._failing.add(name)
        return verdict is not Verdict.LATER

    async def _delivered(self, webhook: Webhook, lane: int, callback: str) -> None:
        now_ms = self._now_ms()
        recovered = await self._lanes.done(webhook.id, lane, callback, now_ms)
        if recovered or webhook.id in self._failing:
            self._failing.discard(webhook.id)
            await self._lanes.wake(webhook.id, now_ms)
            _log.info("webhook.recovered", webhook=webhook.id)

    async def _purge(self, webhook: str) -> None:
        """Drop what was queued while its webhook was being deleted."""
        self._failing.discard(webhook)
        await self._webhooks.purge(webhook)

    async def _keep_up(self) -> None:
        """Measure, and forget dead letters that are too old, every few seconds."""
        while True:
            with contextlib.suppress(PushError):
                await self._measure()
            await asyncio.sleep(_UPKEEP_S)

    async def _measure(self) -> None:
        owned = self._owned()
        now_ms = self._now_ms()
        waiting = dead = 0
        oldest_ms = now_ms
        states = Counter({"ok": 0, "failing": 0, "disabled": 0})
        for webhook in list(self._directory.by_id.values()):
            if partition_of_webhook(webhook.id) not in owned:
                continue
            self._metrics.dead_letters_lost.inc(await self._letters.trim(webhook.id, now_ms))
            count, died_ms = await self._letters.extent(webhook.id)
            dead += count
            oldest_ms = min(oldest_ms, died_ms or now_ms)
            waiting += await self._lanes.waiting(webhook.id)
            states["disabled" if webhook.disabled_ms else self._state(webhook.id)] += 1
        self._shares.forget(set(self._directory.by_id))
        self._metrics.callback_waiting.set(waiting)
        self._metrics.dead_letters.set(dead)
        self._metrics.dead_letter_age.set((now_ms - oldest_ms) / 1000)
        for state, number in states.items():
            self._metrics.webhooks.labels(state).set(number)

    def _state(self, webhook: str) -> str:
        return "failing" if webhook in self._failing else "ok"


async def _until(stopping: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until told to stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
