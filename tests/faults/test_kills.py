"""Whatever is killed: each message answered 200 reaches its handler once, in order."""

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest
from typing_extensions import override

from loadtest.faults import cutting_proxy
from loadtest.run.ground import Ground
from loadtest.run.leader import Leader
from loadtest.run.plain import PlainScreen
from loadtest.run.protocol import Place
from loadtest.run.result import Result
from loadtest.run.spec import parse
from tests.support.gateway import RunningGateway, running_gateway

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

PROCESSES: Final = """
device_kind = "sdk"
devices = 40
rate = 130
duration = 15
connections = 40
faults = [
  { do = "kill", role = "shard", at = 2.5, every = 7.5 },
  { do = "kill", role = "api", at = 5, every = 7.5 },
  { do = "kill", role = "worker", at = 7.5, every = 7.5 },
]
"""
STORE: Final = """
device_kind = "sdk"
devices = 20
rate = 80
duration = 10
connections = 20
faults = [{ do = "kill", role = "store", at = 4, every = 4 }]
"""
SOAK: Final = ("devices=200", "rate=100", "duration=200", "connections=200", "settle=120")

# So short that what a kill leaves behind is found within the test.
QUICK_TIMERS: Final = {"ack_timeout_s": 2.0, "lease_s": 2.0}


class Phases(PlainScreen):
    """Tells when the sending is over."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = asyncio.Event()

    @override
    def phase(self, name: str) -> None:
        super().phase(name)
        if name == "settling":
            self.sent.set()


async def under_fire(gateway: RunningGateway, text: str, overrides: tuple[str, ...]) -> Result:
    """Run a scenario while sockets are cut besides, until everything was sent."""
    screen = Phases()
    async with cutting_proxy(gateway.devices, random.Random(20_000)) as (devices_url, proxy):
        place = Place(
            api=gateway.api,
            devices=devices_url,
            project=gateway.project,
            api_key=gateway.api_key,
            client_key=gateway.client_key,
        )
        ground = Ground(place, ops=gateway.ops, data_dir=gateway.data_dir, own=True)
        async with asyncio.TaskGroup() as group:
            cutting = group.create_task(proxy.run(0.5, share=0.05))
            leader = Leader("kills", parse(text, overrides), ground, screen)
            running = group.create_task(leader.run())
            await screen.sent.wait()
            cutting.cancel()
        assert proxy.cuts > 0
    result = running.result()
    verdict = result.verdict
    assert result.kept, f"{result.report}\n{result.marks}"
    assert verdict.accepted == verdict.delivered == verdict.expected > 0
    assert not verdict.unknown
    return result


def killed(result: Result) -> set[str]:
    return {mark.text.partition("-")[0].split()[0] for mark in result.marks if mark.fault}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), id="gate"),
        pytest.param(SOAK, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
async def test_shards_apis_and_workers_are_killed(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    async with running_gateway(tmp_path, shards=2, apis=2, workers=2, **QUICK_TIMERS) as gateway:
        result = await under_fire(gateway, PROCESSES, overrides)
    assert killed(result) == {"shard", "api", "worker"}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), id="gate"),
        pytest.param(SOAK, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
async def test_the_store_is_killed_under_fsync(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    async with running_gateway(
        tmp_path, shards=2, apis=2, workers=1, durability="fsync", **QUICK_TIMERS
    ) as gateway:
        result = await under_fire(gateway, STORE, overrides)
    assert killed(result) == {"store"}
