"""What sessions tell of their messages, on its way to the router; and routes given up.

Before: `gateway.shard.registry`. After: `router.acks`, which groups acks per device and keeps them
while the store is away. Detaches of one loop tick leave together, behind the acks; those that the
store did not take are tried again, as otherwise hints would go to a session that is gone.
"""

import asyncio
from collections.abc import Callable
from typing import Final, assert_never

import structlog

from gateway.shard.events import Acked, Engaged, Nacked, Sent
from gateway.shard.registry import Told
from router.acks import Acks
from router.model.errors import PushError, StoreUnavailableError
from router.model.ids import DeviceId
from router.policy.retry import Backoff
from router.store.mailbox import Mailboxes

MAX_DETACHES: Final = 100_000
"""Detaches that wait for the store; beyond it the oldest are forgotten, which costs only hints."""
_GROUP: Final = 500
_RETRY: Final = Backoff(base_s=0.05, cap_s=1.0)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.acks")


class ShardLedger:
    """Takes what sessions tell; implements `gateway.shard.registry.Ledger`.

    Args:
        acks: where acks, nacks, marks and engagement go.
        mailboxes: where routes are given up.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(self, acks: Acks, mailboxes: Mailboxes, now_ms: Callable[[], int]) -> None:
        self._acks = acks
        self._mailboxes = mailboxes
        self._now_ms = now_ms
        self._detaches: dict[DeviceId, int] = {}
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many detaches wait."""
        return len(self._detaches)

    def take(self, device: DeviceId, epoch: int, told: Told) -> None:
        """Pass on what a session tells."""
        match told:
            case Acked():
                self._acks.ack(device, epoch, told.acks, told.drops_known)
            case Sent():
                self._acks.sent(device, epoch, told.acks)
            case Nacked():
                self._acks.nack(
                    device, epoch, told.message, told.seq, told.reason, told.not_before_ms
                )
            case Engaged():
                self._acks.engage(device, epoch, told.message, told.event, told.at_ms, told.detail)
            case _:
                assert_never(told)

    async def settle(self, device: DeviceId, epoch: int) -> None:
        """Wait until what a session told so far is stored: before its mailbox is read again.

        Raises:
            StoreUnavailableError: the store is away; what was told is kept.
        """
        await self._acks.settle(device, epoch)

    async def upstream(self, device: DeviceId, epoch: int, ref: str, data: bytes) -> bool:
        """Store a message to the app server.

        Raises:
            StoreUnavailableError: the store is away.
        """
        return await self._acks.upstream(device, epoch, ref, data)

    def detach(self, device: DeviceId, epoch: int) -> None:
        """Give up the route of a session that is over."""
        # The newest epoch of a device is the only one that a detach can change.
        self._detaches[device] = max(epoch, self._detaches.pop(device, 0))
        if len(self._detaches) > MAX_DETACHES:
            del self._detaches[next(iter(self._detaches))]
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain(), name="detaches")

    async def flush(self) -> None:
        """Wait until all that was taken is stored. The caller sets the deadline."""
        await self._acks.flush()
        while (task := self._task) is not None:
            await asyncio.shield(task)

    def stop(self) -> None:
        """Forget what still waits."""
        if self._task is not None:
            self._task.cancel()

    async def _drain(self) -> None:
        """Give up routes until none is left. Its owner is this object: there is one at a time."""
        try:
            while self._detaches:
                await self._flush_once()
                if self._failures:
                    await asyncio.sleep(_RETRY.ceiling_s(self._failures))
        finally:
            self._task = None

    async def _flush_once(self) -> None:
        taken = [(device, self._detaches[device]) for device in list(self._detaches)[:_GROUP]]
        for device, _ in taken:
            del self._detaches[device]
        failed: list[tuple[DeviceId, int]] = []
        async with asyncio.TaskGroup() as tasks:
            for device, epoch in taken:
                tasks.create_task(self._detach(device, epoch, failed))
        for device, epoch in failed:
            self._detaches[device] = max(epoch, self._detaches.get(device, 0))
        if failed and not self._failures:
            _log.warning("detaches.kept", count=len(failed))
        self._failures = self._failures + 1 if failed else 0

    async def _detach(
        self, device: DeviceId, epoch: int, failed: list[tuple[DeviceId, int]]
    ) -> None:
        try:
            await self._mailboxes.detach(device, epoch, self._now_ms())
        except StoreUnavailableError:
            failed.append((device, epoch))
        except PushError as error:
            _log.warning("detach.refused", device=device, code=error.code.name)
