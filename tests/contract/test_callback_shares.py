"""Many slow endpoints, on real sockets, do not hold up one that answers."""

import asyncio
import os

import pytest

from router.callbacks.delivery import MAX_REQUESTS
from router.model.ids import ProjectId, new_device_id, partition_of
from router.model.webhook import LANES, lane_of
from router.registration import DeviceSpec, Registered
from tests.contract.callback_stage import CallbackStage, callback_stage, until_receipts
from tests.contract.router_stages import to
from tests.support.receiver import Reply, receiving
from tests.support.waiting import eventually

SLOW = MAX_REQUESTS // LANES + 6
"""So many endpoints could take all places with their lanes."""
A_PROJECT = 10


async def devices_of_all_lanes(stage: CallbackStage, project: ProjectId) -> list[Registered]:
    """Register devices until each lane has one."""
    found: dict[int, Registered] = {}
    while len(found) < LANES:
        device = await stage.registration.register(project, DeviceSpec(platform="python"))
        found[lane_of(partition_of(device.device_id))] = device
    return list(found.values())


@pytest.mark.slow
async def test_a_quick_endpoint_keeps_its_pace_beside_more_slow_ones_than_there_are_places(
    fresh_store_url: str,
) -> None:
    async with (
        callback_stage(fresh_store_url, callback_timeout_s=60.0) as stage,
        receiving() as slow,
        receiving() as quick,
        stage.worker(),
    ):
        released = asyncio.Event()
        slow.answer = lambda _: Reply(after=released)
        await stage.webhook(quick)
        device = await stage.register()
        await stage.sender.send(stage.project, to(device))
        await until_receipts(quick, 1)
        crowd = 0
        for _ in range(-(-SLOW // A_PROJECT)):
            project = ProjectId(f"p-{new_device_id(os.urandom(10))}")
            for _ in range(A_PROJECT):
                await stage.endpoints.create(project, slow.url, (), "")
                crowd += 1
            for other in await devices_of_all_lanes(stage, project):
                await stage.sender.send(project, to(other))
        assert crowd * LANES > MAX_REQUESTS
        await eventually(lambda: slow.at_once >= MAX_REQUESTS // 2, 30.0)
        for number in range(2, 6):
            await stage.sender.send(stage.project, to(device))
            await until_receipts(quick, number)
        assert slow.at_once < MAX_REQUESTS
        released.set()
        await eventually(lambda: len(slow.taken) >= crowd * LANES, 60.0)
        quick.check()
