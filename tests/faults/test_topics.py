"""Whatever is killed: subscribers get each message once, in order, and all receipts are told."""

import random
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from loadtest.crowd_scenario import CrowdOutcome, CrowdPlan, run
from loadtest.faults import Killer
from loadtest.run.protocol import Place
from tests.support.gateway import RunningGateway, running_gateway

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

GATE: Final = CrowdPlan(devices=200, restless=40, seconds=10.0, every_s=0.5, on_s=1.5, off_s=1.0)
SOAK: Final = CrowdPlan(devices=5_000, restless=500, seconds=90.0, every_s=2.0)
PROCESSES: Final = ("shard", "api", "worker")

# So short that what a kill leaves behind is found within the test.
QUICK_TIMERS: Final = {"ack_timeout_s": 3.0, "lease_s": 2.0}


async def under_fire(
    gateway: RunningGateway, plan: CrowdPlan, period_s: float
) -> tuple[CrowdOutcome, Killer]:
    """Run the plan while processes are killed every `period_s` seconds."""
    chance = random.Random(plan.seed)
    killer = Killer(lambda: {role: gateway.pids(role) for role in PROCESSES}, PROCESSES, chance)
    access = Place(
        api=gateway.api,
        devices=gateway.devices,
        project=gateway.project,
        api_key=gateway.api_key,
        client_key=gateway.client_key,
    )
    return await run(access, plan, lambda: killer.run(period_s)), killer


@pytest.mark.parametrize(
    ("plan", "period_s"),
    [
        pytest.param(GATE, 1.2, id="gate"),
        *(
            pytest.param(
                msgspec.structs.replace(SOAK, seed=seed),
                5.0,
                id=f"soak-{seed}",
                marks=[pytest.mark.soak, pytest.mark.timeout(240)],
            )
            for seed in (1, 2, 3)
        ),
    ],
)
async def test_topics_while_shards_apis_and_workers_are_killed(
    tmp_path: Path, plan: CrowdPlan, period_s: float
) -> None:
    async with running_gateway(
        tmp_path, shards=2, apis=2, workers=2, callback_allow_private="true", **QUICK_TIMERS
    ) as gateway:
        outcome, killer = await under_fire(gateway, plan, period_s)
        account = f"{outcome.report()}\nkilled: {len(killer.kills)}"
        sys.stdout.write(account + "\n")
        assert outcome.kept, account
        assert outcome.verdict.accepted == outcome.verdict.handled > 0
        assert {kill.role for kill in killer.kills} == set(PROCESSES)
