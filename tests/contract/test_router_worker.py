"""The worker role, wired as its process wires it."""

import asyncio

from prometheus_client import CollectorRegistry

from gateway.process import Clock, Entropy, RoleContext
from gateway.settings import Settings
from gateway.worker import app
from router.model.ids import PARTITIONS
from router.store.connection import Store
from tests.contract.router_stages import Stages, to
from tests.support.valkey import opened_store
from tests.support.waiting import eventually


async def expired(stages: Stages) -> bool:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=1))

    async def ended() -> bool:
        return "expired" in await stages.events(sent)

    return await eventually(ended)


async def leases(store: Store) -> int:
    count = 0
    for number in range(PARTITIONS):
        lease = await store.batch.call("EXISTS", f"{{{number:02x}}}:lease")
        count += lease == 1
    return count


async def test_a_worker_is_ready_works_and_leaves_nothing_behind(fresh_store_url: str) -> None:
    ready: list[dict[str, str]] = []
    registry = CollectorRegistry()
    context = RoleContext("worker-0", Clock(), Entropy(), registry, ready.append)
    settings = Settings(store_url=fresh_store_url)
    async with asyncio.timeout(30), opened_store(fresh_store_url) as store:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(app.run(settings, context))
            stages = Stages(store)
            assert await expired(stages)
            assert ready[0]["worker"].startswith("worker-0-")
            assert await leases(store) == PARTITIONS
            name, labels = "pushwire_receipts_total", {"event": "expired"}
            await eventually(lambda: registry.get_sample_value(name, labels))
            context.stopping.set()
        assert await leases(store) == 0
        assert await stages.leases.workers(stages.clock.now_ms(), 6_000) == []
