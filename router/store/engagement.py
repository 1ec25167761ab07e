"""What people did with messages to topics.

Before: `gateway.shard.engagement`. After: `lua/engage_topic.lua`. A message's status stands in the
partition of its topic, a device's subscriptions in its mailbox: no function sees both, so the
devices are looked at first.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from router.model.ids import (
    DeviceId,
    MessageId,
    ProjectId,
    TopicName,
    partition_of_message,
)
from router.model.receipt import Event
from router.store import keys
from router.store.connection import Store
from router.store.devices import text
from router.store.link import Reply, fields

_TOPICS: Final = "/topics/"
_EVERYBODY: Final = "*"
"""No topic has this name: it is the log in which all devices of a project take part."""
BATCH: Final = 100
"""Events in one call of the function."""


class Engagement(msgspec.Struct, frozen=True, gc=False):
    """What a person did with a message, on one device."""

    device: DeviceId
    event: Event
    at_ms: int
    detail: str = ""
    sent: bool = False
    """Whether the device is known to have been sent the message."""


class Engagements:
    """Counts each event of a message once for each device.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function("engage_topic")

    async def note(
        self, project: ProjectId, message: MessageId, told: Sequence[Engagement]
    ) -> None:
        """Note what devices tell of a message, as far as they can have it.

        Nothing is noted of a message of another project, and of a device that neither was sent it
        nor subscribes to its topic.
        """
        topic = await self._topic_of(project, message)
        if topic is None:
            return
        unproven = {one.device for one in told if not one.sent}
        allowed = await self._subscribers(project, topic, unproven)
        noted = [one for one in told if one.sent or one.device in allowed]
        for start in range(0, len(noted), BATCH):
            await self._store.batch.fcall(
                self._function,
                (
                    keys.outbox(partition_of_message(message)),
                    keys.message(message),
                    keys.receivers(message),
                ),
                (
                    message,
                    project,
                    *(
                        part
                        for one in noted[start : start + BATCH]
                        for part in (one.event.value, one.device, one.at_ms, one.detail)
                    ),
                ),
            )

    async def _topic_of(self, project: ProjectId, message: MessageId) -> TopicName | None:
        """Give the topic of a message; None where there is none, or nobody counts."""
        head, receipts = fields(
            await self._store.batch.call("HMGET", keys.message(message), "i", "r")
        )
        owner, _, rest = text(head).partition("|")
        if owner != project or receipts == b"n":
            return None
        target = rest.partition("|")[0]
        return TopicName(target.removeprefix(_TOPICS)) if target.startswith(_TOPICS) else None

    async def _subscribers(
        self, project: ProjectId, topic: TopicName, devices: Collection[DeviceId]
    ) -> set[DeviceId]:
        """Give those of some devices that subscribe to a topic, or take part in that of all."""
        field = f"t:{topic}"
        asked: list[tuple[DeviceId, asyncio.Future[Reply]]] = [
            (device, self._store.batch.call("HMGET", keys.mailbox(device), "p", field))
            for device in devices
        ]
        found: set[DeviceId] = set()
        for device, answer in asked:
            owner, cursor = fields(await answer)
            if text(owner) == project and (cursor is not None or topic == _EVERYBODY):
                found.add(device)
        return found
