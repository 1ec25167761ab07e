"""Fill a running store with offline devices and their subscriptions, and say what they take.

`python -m tests.support.preload URL PROJECT --devices N --topics K --per-device M`, for the load
test's cases of a million subscriptions. Over HTTP a million registrations take five minutes and
more of each run, and are not what these cases measure; so they go through the same functions of
the store that the API calls. The load test itself knows the product from outside only.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import uvloop

from router.model.device import Device
from router.model.ids import (
    ENTROPY_BYTES,
    SECRET_BYTES,
    DeviceId,
    ProjectId,
    TopicName,
    all_partitions,
    new_credential,
    new_device_id,
    new_token,
    secret_hash,
)
from router.store import keys
from router.store.connection import Store, StoreOptions
from router.store.devices import Devices
from router.store.subscriptions import Subscriber
from router.store.topics import Topics
from tests.support.valkey import make_store, wall_ms

_AT_ONCE: Final = 500
_SAMPLES: Final = 200


class Loaded(msgspec.Struct):
    """Bytes of the store's memory."""

    before: int
    registered: int
    """With the devices."""
    subscribed: int
    """With their subscriptions too."""
    mailbox: float = 0.0
    """Of a mailbox, on average, before it subscribed."""
    mailbox_subscribed: float = 0.0
    member: float = 0.0
    """Of a member of the sets of members, on average."""


async def load(
    store: Store, project: ProjectId, devices: int, topics: Sequence[TopicName], each: int
) -> Loaded:
    """Register so many devices, and subscribe each to `each` of these topics, in turn."""
    registry, logs = Devices(store), Topics(store)
    before = await _used(store)
    ids: list[DeviceId] = []
    nonces: list[str] = []

    async def register(_number: int) -> None:
        device = new_device_id(os.urandom(ENTROPY_BYTES))
        token = new_token("local", device, os.urandom(ENTROPY_BYTES))
        hashed = secret_hash(str(new_credential(device, os.urandom(SECRET_BYTES))))
        fields = Device(device, project, "python", "1.0.0", "en", "Europe/Berlin")
        await registry.register(fields, token.nonce, hashed, wall_ms())
        ids.append(device)
        nonces.append(token.nonce)

    await _many(devices, register)
    registered = await _used(store)
    sampled = [keys.mailbox(device) for device in ids[:: max(1, devices // _SAMPLES)]]
    mailbox = await _average(store, sampled)

    async def subscribe(number: int) -> None:
        first = number * each
        chosen = {topics[(first + at) % len(topics)]: wall_ms() for at in range(each)}
        await logs.subscribe(project, Subscriber(ids[number], nonces[number]), chosen, wall_ms())

    await _many(devices, subscribe)
    sets = [keys.members(all_partitions()[0], project, topic) for topic in topics[:_SAMPLES]]
    members = [int(str(await store.batch.call("SCARD", key))) for key in sets]
    return Loaded(
        before,
        registered,
        await _used(store),
        mailbox,
        await _average(store, sampled),
        await _average(store, sets) * len(sets) / max(1, sum(members)),
    )


async def _many(count: int, one: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(work())


async def _used(store: Store) -> int:
    reply = await store.batch.call("INFO", "memory")
    assert isinstance(reply, bytes)
    lines = dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
    return int(lines["used_memory"])


async def _average(store: Store, sampled: Sequence[str]) -> float:
    found = [
        int(str(await store.batch.call("MEMORY", "USAGE", key, "SAMPLES", 0) or 0))
        for key in sampled
    ]
    return sum(found) / len(found)


async def main() -> None:
    """Load, and print what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("project")
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--topics", type=int, required=True)
    parser.add_argument("--per-device", type=int, required=True)
    parser.add_argument("--prefix", default="topic-")
    options = parser.parse_args()
    topics = [TopicName(f"{options.prefix}{number}") for number in range(options.topics)]
    async with make_store(StoreOptions(url=options.url, deadline_s=60.0)) as store:
        project, each = ProjectId(options.project), options.per_device
        loaded = await load(store, project, options.devices, topics, each)
    sys.stdout.write(msgspec.json.encode(loaded).decode() + "\n")


if __name__ == "__main__":
    uvloop.run(main())
