"""A project with a bridge, its devices, and what a worker does for their topics."""

import os
from typing import Any

from router.contacts import NO_REACH
from router.model.ids import (
    DeviceId,
    MessageId,
    TopicName,
    all_partitions,
    partition_of_message,
)
from router.model.message import Message
from router.model.selection import Selection
from router.publish import Publication, Publisher
from router.registration import DeviceSpec, Registered
from router.store import keys
from router.store.bridge_jobs import Job, Lane
from router.store.connection import Store
from router.store.topics import Topics
from router.store.walks import Walks
from router.subscription import Subscription
from router.walk import BridgeWalks
from tests.contract.router_stages import Stages
from tests.support.bridges import APNS_TOKEN
from tests.support.leases import own

NEWS = TopicName("news")
WORKER = "walks-worker"


class World:
    """A project with a bridge, and what a worker does for its topics."""

    def __init__(self, store: Store) -> None:
        self.stages = Stages(store)
        self.stages.known.by_project[self.stages.project] = frozenset({"apns"})
        self.topics = Topics(store)
        self.walks = BridgeWalks(Walks(store))
        now_ms = self.stages.clock.now_ms
        self.publisher = Publisher(
            self.topics,
            self.stages.routing,
            now_ms,
            os.urandom,
            self.stages.sender.withdraw,
            self.stages.terms,
        )
        self.subscription = Subscription(self.topics, self.stages.routing, now_ms)
        self.made = 0

    async def device(self, *topics: str, bridge: bool = True, **about: Any) -> Registered:
        """Register a device, subscribed to these topics."""
        stages = self.stages
        self.made += 1
        raw = {"type": "apns", "token": f"{self.made:04x}" + APNS_TOKEN[4:]}
        reach = await stages.contacts.read(stages.project, raw) if bridge else NO_REACH
        spec = DeviceSpec(platform="ios", **about)
        made = await stages.registration.register(stages.project, spec, reach=reach)
        for topic in topics:
            await self.subscription.change_tokens(
                stages.project, TopicName(topic), [made.token], subscribe=True
            )
        await self.reach(made.device_id)
        return made

    async def reach(self, device: DeviceId) -> None:
        await self.walks.reach(device, self.stages.clock.now_ms())

    async def publish(self, topic: str = NEWS, **fields: Any) -> MessageId:
        message = Message(
            token="", topic=TopicName(topic), **{"ttl_ms": 600_000, "data": {"k": "v"}, **fields}
        )
        return await self._publish(message, TopicName(topic))

    async def broadcast(self, selection: Selection, **fields: Any) -> MessageId:
        message = Message(token="", selection=selection, ttl_ms=600_000, data={}, **fields)
        log = message.log
        assert log is not None
        return await self._publish(message, log)

    async def _publish(self, message: Message, log: TopicName) -> MessageId:
        return await self.publisher.publish(self.stages.project, Publication(log, message))

    async def is_walked(self, message: MessageId) -> bool:
        timers = keys.timers(partition_of_message(message))
        return await self.stages.store.batch.call("ZSCORE", timers, f"walk:{message}") is None

    async def walk(self, message: MessageId) -> None:
        while not await self.is_walked(message):
            await self.walks.step(message, self.stages.clock.now_ms())

    async def timers(self, message: MessageId) -> dict[DeviceId, int]:
        """When which device's job is due."""
        found = {}
        for partition in all_partitions():
            reply: Any = await self.stages.store.batch.call(
                "ZRANGE", keys.timers(partition), 0, -1, "WITHSCORES"
            )
            for name, due in zip(reply[::2], reply[1::2], strict=True):
                kind, _, subject = name.decode().partition(":")
                if kind == "bridge" and subject.startswith(message):
                    found[DeviceId(subject.partition(".")[2])] = int(due)
        return found

    async def jobs(self, message: MessageId, ahead_ms: int = 0) -> list[Job]:
        """Queue what is due of a message after a while, and take it all."""
        stages, taken = self.stages, []
        now_ms = stages.clock.now_ms() + ahead_ms
        lane = Lane(stages.project, "apns")
        for device, due in (await self.timers(message)).items():
            if due <= now_ms:
                await stages.jobs.ready(f"{message}.{device}", now_ms)
        for partition in all_partitions():
            await own(stages.store, partition, WORKER)
            found = await stages.jobs.take(partition, lane, WORKER, 128, now_ms, 30_000)
            taken += [job for job in found.jobs if job.message == message]
            await stages.leases.partition_release(partition, WORKER)
        return taken

    async def reached(self, message: MessageId, ahead_ms: int = 0) -> list[DeviceId]:
        await self.walk(message)
        return sorted(job.device for job in await self.jobs(message, ahead_ms))

    async def counts(self, message: MessageId) -> dict[str, int]:
        status = await self.stages.messages.status(message)
        assert status is not None
        return status.counts
