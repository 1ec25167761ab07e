"""Whatever is killed: each message answered 200 reaches its handler once, in order."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from loadtest.faults import Killer, cutting_proxy
from loadtest.scenario import Access, Outcome, Plan, run
from tests.support.gateway import RunningGateway, running_gateway

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

GATE: Final = Plan(devices=40, messages=2_000, rate=130.0)
SOAK: Final = Plan(devices=200, messages=20_000, rate=100.0, settle_s=120.0)
PROCESSES: Final = ("shard", "api", "worker")

# So short that what a kill leaves behind is found within the test.
QUICK_TIMERS: Final = {"ack_timeout_s": 2.0, "lease_s": 2.0}


async def under_fire(
    gateway: RunningGateway, plan: Plan, folder: Path, roles: Sequence[str], period_s: float
) -> tuple[Outcome, Killer]:
    """Run the plan while processes are killed every `period_s` seconds, and sockets cut."""
    chance = random.Random(20_000)
    pids = dict.fromkeys(roles, gateway.pids)
    killer = Killer(lambda: {role: find(role) for role, find in pids.items()}, roles, chance)
    async with cutting_proxy(gateway.devices, chance) as (devices_url, proxy):

        async def trouble() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(killer.run(period_s))
                group.create_task(proxy.run(0.5, share=0.05))

        access = Access(
            api=gateway.api,
            devices=devices_url,
            project=gateway.project,
            api_key=gateway.api_key,
            client_key=gateway.client_key,
        )
        outcome = await run(access, plan, folder, trouble)
        assert proxy.cuts > 0
    return outcome, killer


@pytest.mark.parametrize(
    ("plan", "period_s"),
    [
        pytest.param(GATE, 2.5, id="gate"),
        pytest.param(SOAK, 4.0, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
async def test_shards_apis_and_workers_are_killed(
    tmp_path: Path, plan: Plan, period_s: float
) -> None:
    async with running_gateway(tmp_path, shards=2, apis=2, workers=2, **QUICK_TIMERS) as gateway:
        outcome, killer = await under_fire(gateway, plan, tmp_path, PROCESSES, period_s)
        assert outcome.verdict.kept, f"{outcome.report()}\n{killer.kills}"
        assert outcome.verdict.accepted == outcome.verdict.handled == plan.messages
        assert {kill.role for kill in killer.kills} == set(PROCESSES)


@pytest.mark.parametrize(
    ("plan", "period_s"),
    [
        pytest.param(Plan(devices=20, messages=800, rate=80.0), 4.0, id="gate"),
        pytest.param(SOAK, 15.0, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
async def test_the_store_is_killed_under_fsync(tmp_path: Path, plan: Plan, period_s: float) -> None:
    async with running_gateway(
        tmp_path, shards=2, apis=2, workers=1, durability="fsync", **QUICK_TIMERS
    ) as gateway:
        outcome, killer = await under_fire(gateway, plan, tmp_path, ["store"], period_s)
        assert outcome.verdict.kept, f"{outcome.report()}\n{killer.kills}"
        assert outcome.verdict.accepted == outcome.verdict.handled == plan.messages
        assert killer.kills
