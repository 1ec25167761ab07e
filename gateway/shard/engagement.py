"""What people do with messages to topics, as sessions tell it, on its way into the store.

Before: `gateway.shard.topics`. After: `router.store.engagement`, which counts each event of a
message once for each device. It is stored once a second, many in one call. While the store is away
it is kept, up to a bound.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from router.model.errors import PushError, StoreUnavailableError
from router.model.ids import DeviceId, MessageId, ProjectId
from router.model.receipt import Event
from router.store.engagement import Engagement, Engagements

MAX_TOLD: Final = 50_000
"""Events that wait to be stored; of more nothing is noted."""
_CALLS: Final = 64
"""Messages that are stored at once."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.topics")

_Told = dict[tuple[DeviceId, Event], Engagement]


class EngagementLedger:
    """Collects what devices tell, and stores it.

    Args:
        store: where it goes.
        limit: the most that is kept.
    """

    def __init__(self, store: Engagements, limit: int = MAX_TOLD) -> None:
        self._store = store
        self._limit = limit
        self._told: dict[tuple[ProjectId, MessageId], _Told] = {}
        self._kept = 0
        self._dropped = 0

    def add(self, project: ProjectId, message: MessageId, told: Engagement) -> None:
        """Take what a device tells of a message; what it told before stands."""
        events = self._told.get((project, message), {})
        key = (told.device, told.event)
        if key in events:
            return
        if self._kept >= self._limit:
            self._dropped += 1
            return
        self._told[(project, message)] = events
        events[key] = told
        self._kept += 1

    async def flush(self) -> None:
        """Store what was told; what the store does not take is kept."""
        if self._dropped:
            _log.warning("engagement.dropped", count=self._dropped)
            self._dropped = 0
        taken, self._told, self._kept = list(self._told.items()), {}, 0
        for start in range(0, len(taken), _CALLS):
            async with asyncio.TaskGroup() as tasks:
                for (project, message), events in taken[start : start + _CALLS]:
                    tasks.create_task(self._note(project, message, list(events.values())))

    async def _note(
        self, project: ProjectId, message: MessageId, told: Sequence[Engagement]
    ) -> None:
        try:
            await self._store.note(project, message, told)
        except StoreUnavailableError:
            for one in told:
                self.add(project, message, one)
        except PushError as error:
            _log.warning("engagement.refused", reason=error.message)
