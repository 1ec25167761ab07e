"""From a message to a topic, a condition or a filter to a job for each device with a bridge.

Before: the workers' timers (`router.redelivery`): `publish` sets one where the topic may have such
devices. After: `router.store.walks`. A walk goes on where it was left, whoever goes on: a device
that was looked at is marked in the step that makes its job.
"""

from typing import Final

from router.model.ids import DeviceId, MessageId
from router.policy.admission import Admission, admission
from router.store.walks import Place, Walk, Walks

_WINDOWS: Final = 16
"""In one go; then other timers have their turn."""
_MOST_WAITING: Final = 2_000
"""Jobs in one queue of a partition: beyond that a walk waits, or it would fill the store."""
_PAUSE_MS: Final = 1_000


class BridgeWalks:
    """Walks over devices.

    Args:
        walks: the walks in the store.
    """

    def __init__(self, walks: Walks) -> None:
        self._walks = walks

    async def step(self, subject: str, now_ms: int) -> None:
        """Go on with one message, some windows of devices.

        Raises:
            StoreUnavailableError: the store is away; the timer stands.
        """
        message = MessageId(subject)
        walk = await self._walks.walk(message)
        if walk is None or walk.expires_ms <= now_ms:
            await self._walks.forget(message)
            return
        wanted = admission(walk.selection)
        at = walk.place
        left = [one for one in await self._walks.partitions(walk) if one >= at.partition]
        waiting = 0
        for _ in range(_WINDOWS):
            if not left or waiting > _MOST_WAITING:
                break
            if at.partition != left[0]:
                at = Place(left[0])
            cursor, devices = await self._walks.members(walk, at)
            chosen = devices if wanted is None else await self._admitted(wanted, devices)
            waiting = await self._walks.put(walk, at.partition, chosen, now_ms)
            following = await self._following(walk, at, cursor)
            if following is None:
                left.pop(0)
            else:
                at = following
        await self._walks.note(message, at if at.partition in left else Place(*left[:1]))
        if waiting > _MOST_WAITING:
            await self._walks.pause(message, now_ms + _PAUSE_MS)

    async def _following(self, walk: Walk, at: Place, cursor: str) -> Place | None:
        """Give where to go on in a partition; None where all of it was walked over.

        A cursor is good within one run of its server: after a restart, or on a replica that took
        over, it would leave devices out. So a partition of several windows is done when the run is
        the same at its end as it was at its beginning, and begun anew otherwise.
        """
        if cursor and at.run:
            return at._replace(cursor=cursor)
        if not cursor and not at.cursor:
            return None
        run = await self._walks.run(walk, at.partition)
        return None if run == at.run else Place(at.partition, "", run)

    async def reach(self, subject: str, now_ms: int) -> None:
        """Tell topics that a bridge reaches one of their subscribers.

        Raises:
            StoreUnavailableError: the store is away; the timer stands.
        """
        del now_ms
        await self._walks.reach(DeviceId(subject))

    async def _admitted(self, wanted: Admission, devices: list[DeviceId]) -> list[DeviceId]:
        topics = [] if wanted.condition is None else list(wanted.condition.topics)
        described = await self._walks.describe(devices, topics)
        return [
            one.device for one in described if wanted.admits(one.profile, one.topics.__contains__)
        ]
