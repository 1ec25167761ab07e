"""A process stands still for longer than its lease, and goes on as if nothing had been."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from typing_extensions import override

from loadtest.run.ground import Ground
from loadtest.run.leader import Leader
from loadtest.run.plain import PlainScreen
from loadtest.run.protocol import Place
from loadtest.run.result import Result
from loadtest.run.spec import parse
from tests.support.gateway import RunningGateway, running_gateway

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

SCENARIO: Final = """
device_kind = "sdk"
devices = 20
rate = 60
duration = 9
connections = 20
targets = { token = 0.8, user = 0.1, topic = 0.1 }
callbacks = true
"""
SOAK: Final = ("devices=60", "duration=100", "connections=60", "settle=120")
LEASE_S: Final = 1.0
QUICK: Final = {"ack_timeout_s": 2.0, "lease_s": LEASE_S, "callback_allow_private": "true"}
BEFORE_S: Final = 2.0
"""What is under way when a process stops is different in each run: that is the point."""


class Sending(PlainScreen):
    """Tells when messages begin to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    @override
    def phase(self, name: str) -> None:
        super().phase(name)
        if name == "sending":
            self.begun.set()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def pause(
    gateway: RunningGateway, overrides: tuple[str, ...], role: str, seconds: float
) -> Result:
    """Send messages; meanwhile one process of a role stands still for so many seconds."""
    screen = Sending()
    place = Place(
        api=gateway.api,
        devices=gateway.devices,
        project=gateway.project,
        api_key=gateway.api_key,
        client_key=gateway.client_key,
    )
    ground = Ground(place, ops=gateway.ops, data_dir=gateway.data_dir, own=True)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(
            Leader("pauses", parse(SCENARIO, overrides), ground, screen).run()
        )
        await screen.begun.wait()
        await asyncio.sleep(BEFORE_S)
        with stopped(gateway.pids(role)[0]):
            await asyncio.sleep(seconds)
    return running.result()


@pytest.mark.parametrize(
    ("overrides", "seconds"),
    [
        pytest.param((), 3 * LEASE_S, id="gate"),
        pytest.param(SOAK, 30.0, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
@pytest.mark.parametrize("role", ["shard", "api", "worker", "store"])
async def test_nothing_is_lost_or_handled_twice_when_a_process_was_paused(
    tmp_path: Path, role: str, overrides: tuple[str, ...], seconds: float
) -> None:
    async with running_gateway(tmp_path, shards=2, apis=2, workers=2, **QUICK) as gateway:
        before = gateway.pids()
        result = await pause(gateway, overrides, role, seconds)
        assert gateway.pids() == before, "a process was replaced"
        # Only a shard cannot tell whether others took its devices meanwhile.
        assert ("shard.lease_lost" in gateway.logged()) == (role == "shard")
    verdict = result.verdict
    assert result.kept, f"{result.report}\n{result.marks}"
    assert verdict.delivered == verdict.expected > 0, result.report
    assert not verdict.unknown
