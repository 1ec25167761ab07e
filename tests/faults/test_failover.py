"""A primary of the store dies, and a replica takes over, while messages are sent."""

import asyncio
from collections.abc import Callable
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
from router.store.slots import Tags, slot_of_key
from tests.support.clusters import ClusterServers, move_at_once, ranges, running_cluster
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.sentinels import Watched, watched_servers
from tests.support.tcp_server import wait_until

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

SCENARIO: Final = """
device_kind = "sdk"
devices = 20
rate = 80
duration = 8
connections = 20
"""
SOAK: Final = ("devices=100", "rate=100", "duration=200", "connections=100", "settle=120")
# So short that what a failover leaves behind is found within the test.
QUICK: Final = {"shards": 2, "apis": 1, "workers": 1, "ack_timeout_s": 2.0, "lease_s": 2.0}
LOST_S: Final = 1.0
"""What replication may be behind at the most; on loopback it is far less."""


class Phases(PlainScreen):
    """Tells when the sending begins and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.sending, self.sent = asyncio.Event(), asyncio.Event()

    @override
    def phase(self, name: str) -> None:
        super().phase(name)
        if name == "sending":
            self.sending.set()
        elif name == "settling":
            self.sent.set()


async def play(
    gateway: RunningGateway, overrides: tuple[str, ...], times: int, trouble: Callable[[int], None]
) -> Result:
    """Send messages; meanwhile `trouble(n)` is called in a thread, for n = 0, 1, … `times`."""
    screen = Phases()
    place = Place(
        api=gateway.api,
        devices=gateway.devices,
        project=gateway.project,
        api_key=gateway.api_key,
        client_key=gateway.client_key,
    )
    ground = Ground(place, ops=gateway.ops, data_dir=gateway.data_dir, own=True)
    async with asyncio.TaskGroup() as group:
        leader = Leader("failover", parse(SCENARIO, overrides), ground, screen)
        running = group.create_task(leader.run())
        await screen.sending.wait()
        for number in range(times):
            if not number or not screen.sent.is_set():
                await asyncio.to_thread(trouble, number)
    return running.result()


def assert_kept(result: Result) -> None:
    verdict = result.verdict
    assert result.kept, f"{result.report}\n{result.marks}"
    assert verdict.accepted == verdict.delivered == verdict.expected > 0
    assert not verdict.unknown


def change_primary(watched: Watched) -> None:
    """Kill the primary, and bring it back as a replica of the one that took over."""
    before = watched.primary()
    before.stop()
    watched.await_failover(before)
    before.start()
    after = watched.primary()
    wait_until("a replica again", lambda: "state=online" in str(after.ask("INFO")))


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        pytest.param((), 1, id="gate"),
        pytest.param(SOAK, 20, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
async def test_what_a_replica_has_is_not_lost(
    tmp_path: Path, overrides: tuple[str, ...], times: int
) -> None:
    with watched_servers() as watched:
        settings = {**QUICK, "store_url": watched.url, "store_replicas": 1}
        async with running_gateway(tmp_path, **settings) as gateway:
            result = await play(gateway, overrides, times, lambda _: change_primary(watched))
    assert_kept(result)


@pytest.mark.soak
async def test_without_waiting_for_replicas_only_the_last_moment_may_be_lost(
    tmp_path: Path,
) -> None:
    with watched_servers() as watched:
        async with running_gateway(tmp_path, **QUICK, store_url=watched.url) as gateway:
            result = await play(gateway, (), 1, lambda _: change_primary(watched))
    verdict = result.verdict
    assert not verdict.doubled, result.report
    assert not verdict.out_of_order, result.report
    assert len(verdict.lost) <= 80 * LOST_S, result.report


def trouble_of_a_cluster(cluster: ClusterServers, number: int) -> None:
    """Move the slots of some partitions to another node, and kill a primary for its replica."""
    for partition in range(4 * number % 64, 4 * number % 64 + 4):
        slot = slot_of_key(f"{{{partition:02x}}}:timers", Tags())
        owner = cluster.owner(slot)
        other = next(node for node in cluster.primaries() if node is not owner)
        move_at_once(slot, owner, other)
    before = cluster.primaries()[number % 3]
    slot = next(one.first for one in ranges(before) if one.primary == before.port)
    before.stop()
    cluster.await_owner_other_than(before, slot)
    before.start()
    cluster.await_replicas()


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        pytest.param((), 1, id="gate"),
        pytest.param(SOAK, 12, id="soak", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
async def test_slots_move_and_a_node_of_a_cluster_dies(
    tmp_path: Path, overrides: tuple[str, ...], times: int
) -> None:
    with running_cluster(replicas=True) as cluster:
        settings = {**QUICK, "store_url": cluster.url, "store_replicas": 1}
        async with running_gateway(tmp_path, **settings) as gateway:
            result = await play(
                gateway, overrides, times, lambda number: trouble_of_a_cluster(cluster, number)
            )
    assert_kept(result)
