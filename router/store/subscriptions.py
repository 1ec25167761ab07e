"""What devices subscribe to, and what of a device decides which published messages it gets.

Before: `router.subscription`, `gateway.shard.topics`. After: `lua/<function>.lua`.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

from router.model.hint import Route
from router.model.ids import DeviceId, ProjectId, TopicName, partition_of
from router.model.selection import Profile
from router.model.topic import MAX_TOPICS, Standing, SubscribeResult
from router.store import keys
from router.store.connection import Store
from router.store.devices import optional_route, text
from router.store.link import Reply, fields

_REFUSALS: Final = {
    -1: SubscribeResult.UNREGISTERED,
    -2: SubscribeResult.SENDER_ID_MISMATCH,
    -3: SubscribeResult.TOO_MANY,
}


class Subscriber(NamedTuple):
    """Whose subscriptions change, and how that is proven: by its token's nonce or its epoch."""

    device: DeviceId
    nonce: str = ""
    epoch: int = 0


class Changed(NamedTuple):
    """How a change ended, and the session to tell of it."""

    result: SubscribeResult
    changed: bool = False
    route: Route | None = None


class Subscriptions:
    """Subscriptions of devices.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        self._ack_timeout_ms = store.options.ack_timeout_ms

    async def subscribe(
        self, project: ProjectId, who: Subscriber, topics: Mapping[TopicName, int], now_ms: int
    ) -> Changed:
        """Subscribe a device to all these topics, each from behind a seq, or to none."""
        listed = [part for topic, seq in topics.items() for part in (topic, seq)]
        reply = await self._store.batch.fcall(
            self._function("subscribe"),
            _subscription_keys(project, who.device, topics),
            (
                who.device,
                project,
                who.nonce,
                who.epoch or "",
                MAX_TOPICS,
                self._remind(who, now_ms),
                *listed,
            ),
        )
        return _changed(fields(reply))

    async def unsubscribe(
        self, project: ProjectId, who: Subscriber, topics: Sequence[TopicName], now_ms: int
    ) -> Changed:
        """End subscriptions of a device."""
        reply = await self._store.batch.fcall(
            self._function("unsubscribe"),
            _subscription_keys(project, who.device, topics),
            (
                who.device,
                project,
                who.nonce,
                who.epoch or "",
                self._remind(who, now_ms),
                *topics,
            ),
        )
        return _changed(fields(reply))

    async def subscriptions(self, device: DeviceId, epoch: int) -> Standing | None:
        """Read a device's topics and profile for its session; None where the epoch is stale."""
        reply = await self._store.batch.fcall(
            self._function("subscriptions"),
            (keys.mailbox(device), keys.timers(partition_of(device))),
            (device, epoch),
        )
        return None if reply is None else read_standing(*fields(reply))

    def _remind(self, who: Subscriber, now_ms: int) -> int:
        """Tell when a timer looks after a change that the session did not make itself."""
        return 0 if who.epoch else now_ms + self._ack_timeout_ms


def read_standing(profile: Reply, topics: Reply) -> Standing:
    """Read a profile with the broadcast cursor, and topics with their cursors."""
    cursor, *texts = fields(profile)
    # Most devices have these in common with many others: each is kept once.
    platform, app_version, language, region = (sys.intern(text(one)) for one in texts[:4])
    attributes = text(texts[4])
    flat = fields(topics)
    return Standing(
        tuple(
            (TopicName(text(topic)), int(text(seq)))
            for topic, seq in zip(flat[::2], flat[1::2], strict=True)
        ),
        cast("int", cursor),
        Profile(platform, app_version, language, region, "" if attributes == "{}" else attributes),
    )


def _subscription_keys(
    project: ProjectId, device: DeviceId, topics: Mapping[TopicName, int] | Sequence[TopicName]
) -> tuple[str, ...]:
    partition = partition_of(device)
    members = [keys.members(partition, project, topic) for topic in topics]
    return (keys.mailbox(device), keys.timers(partition), *members)


def _changed(reply: list[Reply]) -> Changed:
    changed = cast("int", reply[0])
    if changed < 0:
        return Changed(_REFUSALS[changed])
    return Changed(SubscribeResult.DONE, changed > 0, optional_route(reply, 1))
