"""Forgets dead letters of bridges that are too old."""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Final

from router.bridging.directory import Directory
from router.bridging.letters import endpoint_of
from router.model.errors import PushError
from router.model.ids import Partition
from router.model.webhook import partition_of_webhook
from router.store.dead_letters import DeadLetters
from router.telemetry.metrics import Metrics

_PERIOD_S: Final = 60.0


class Upkeep:
    """Looks after the dead letters in the partitions that a worker owns.

    Args:
        letters: where they are kept.
        directory: the bridges that there are.
        owned: gives the worker's partitions.
        metrics: counts what is forgotten.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(
        self,
        letters: DeadLetters,
        directory: Directory,
        owned: Callable[[], Collection[Partition]],
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._letters = letters
        self._directory = directory
        self._owned = owned
        self._metrics = metrics
        self._now_ms = now_ms

    async def run(self) -> None:
        """Look once a minute, until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            with contextlib.suppress(PushError):
                await self.trim()

    async def trim(self) -> None:
        """Look now.

        Raises:
            StoreUnavailableError: the store is away.
        """
        owned = self._owned()
        for project, bridge in list(self._directory.every):
            name = endpoint_of(project, bridge)
            if partition_of_webhook(name) in owned:
                lost = await self._letters.trim(name, self._now_ms())
                self._metrics.dead_letters_lost.inc(lost)
