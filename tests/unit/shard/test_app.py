"""A whole shard in this process: it serves, drains, and starts anew after a long pause."""

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from structlog.typing import EventDict
from typing_extensions import override

from gateway.process import Clock, Entropy, RoleContext
from gateway.settings import Settings
from gateway.shard import app, probe
from gateway.shard.app import run, session_limits
from gateway.shard.events import Tally
from router.model.ids import ShardId
from router.registration import Registered
from router.store.connection import Store
from tests.conformance.door import Client
from tests.conformance.wire import TEXT, frame
from tests.contract.router_stages import Stages, to
from tests.support.valkey import Server, opened_store, running_server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]


class LeapingClock(Clock):
    """The machine's clock, and leaps as those of a process that was paused."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Running:
    """A shard, its store and its devices."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.stages = Stages(store)
        self.clock = LeapingClock()
        self.registry = CollectorRegistry()
        self.facts: list[dict[str, str]] = []
        self.context = RoleContext(
            "shard-0", self.clock, Entropy(), self.registry, self.facts.append
        )
        self.settings = settings
        self._clients: list[Client] = []

    @property
    def port(self) -> int:
        port = urlsplit(self.facts[0]["url"]).port
        assert port is not None
        return port

    async def client(self, device: Registered) -> Client:
        """Connect a device and read its welcome."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        await client.open()
        connect = {"op": "connect", "credential": device.credential}
        client.send(frame(TEXT, json.dumps(connect).encode()))
        (welcome,) = await client.frames(1)
        assert json.loads(welcome.payload)["op"] == "welcome"
        return client

    async def leases(self) -> dict[str, dict[str, int]]:
        """The shards that live, and what they tell of themselves."""
        found = await self.stages.leases.shards()
        return {name: json.loads(value) for name, value in found.items()}

    async def keys(self, pattern: str) -> list[object]:
        found = await self.stages.store.batch.call("KEYS", pattern)
        assert isinstance(found, list)
        return list(found)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    async def close(self) -> None:
        for client in self._clients:
            client.close()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()


@contextlib.asynccontextmanager
async def running(url: str, store: Store, **changes: object) -> AsyncIterator[Running]:
    """Run a shard until the block ends, and let it drain."""
    given = {"store_url": url, "device_port": 0, "drain_s": 0.05, **changes}
    shard = Running(msgspec.structs.replace(Settings(), **given), store)
    async with asyncio.TaskGroup() as tasks:
        role = tasks.create_task(run(shard.settings, shard.context))
        try:
            await eventually(lambda: shard.facts)
            yield shard
        finally:
            shard.context.stopping.set()
            async with asyncio.timeout(20):
                await asyncio.wait({role})
            await shard.close()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """A process that is ready freezes what it has; this one goes on to other tests."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.fixture
async def fresh(fresh_store_url: str) -> AsyncIterator[tuple[str, Store]]:
    async with opened_store(fresh_store_url) as store:
        yield fresh_store_url, store


async def test_a_shard_serves_devices_and_leaves_nothing_behind(
    fresh: tuple[str, Store],
) -> None:
    async with running(*fresh) as shard:
        device = await shard.stages.register()
        client = await shard.client(device)
        await eventually(lambda: shard.count("pushwire_probe_ok", role="shard"))
        sent = await shard.stages.sender.send(shard.stages.project, to(device))
        (message,) = await client.frames(1)
        assert json.loads(message.payload)["id"] == sent
        client.send(frame(TEXT, json.dumps({"op": "ack", "ids": [sent]}).encode()))
        (name,) = await shard.leases()
        assert name.startswith("shard-0-")
        assert shard.count("pushwire_connections") == 1
        shard.context.stopping.set()
        away, closed = await client.to_end()
        assert json.loads(away.payload)["op"] == "goaway"
        assert closed.code == 1001
    assert await shard.stages.events(sent) == ["accepted", "sent", "delivered"]
    assert shard.count("pushwire_deliveries_total") == 2, "the probe's is one of them"
    assert await shard.keys("shard*") == []
    kept = await shard.keys("*:d:*")
    assert kept == [f"{{{device.token.split('.')[1]}}}:d:{device.device_id}".encode()]


async def test_a_lease_tells_of_the_shard(fresh: tuple[str, Store]) -> None:
    async with running(*fresh, lease_s=1.0) as shard:
        await shard.client(await shard.stages.register())

        async def told() -> dict[str, int]:
            # On a machine that is busy it may lapse before it is first renewed.
            lease = next(iter((await shard.leases()).values()), {})
            return lease if lease.get("probe_ms") and lease.get("connections") else {}

        lease: dict[str, int] = await eventually(told)
        assert lease["connections"] == 1
        assert lease["probe_ms"] <= shard.clock.now_ms()


async def test_a_shard_that_was_paused_longer_than_its_lease_starts_anew(
    fresh: tuple[str, Store],
) -> None:
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        port = spare.getsockname()[1]
    with capture_logs() as logs:
        async with running(*fresh, lease_s=1.0, device_port=port) as shard:
            device = await shard.stages.register()
            client = await shard.client(device)
            # On a machine that is busy it may lapse before it is first renewed.
            found: dict[str, dict[str, int]] = await eventually(shard.leases)
            (first,) = found
            shard.clock.ahead_s += 10.0
            assert await client.raw_to_end() == b""

            async def renamed() -> bool:
                return bool(set(await shard.leases()) - {first})

            anew: bool = await eventually(renamed)
            assert anew
            again = await shard.client(device)
            sent = await shard.stages.sender.send(shard.stages.project, to(device))
            (message,) = await again.frames(1)
            assert json.loads(message.payload)["id"] == sent
            assert first not in await shard.leases()
            assert shard.facts == [{"url": f"ws://127.0.0.1:{port}"}], "it was ready all the time"
    lost = [entry["shard"] for entry in logs if entry["event"] == "shard.lease_lost"]
    assert lost == [first]
    assert await shard.keys("shard*") == []


async def test_a_shard_waits_for_its_store_and_keeps_its_devices_while_it_is_away() -> None:
    with running_server() as server, capture_logs() as logs:
        async with opened_store(server.url) as store:
            server.pause()
            async with asyncio.TaskGroup() as tasks:
                starting = tasks.create_task(away(server, store, logs))
                await eventually(lambda: "shard.waits_for_store" in events(logs))
                server.resume()
                await starting


def events(logs: list[EventDict]) -> list[str]:
    return [entry["event"] for entry in logs]


async def away(server: Server, store: Store, logs: list[EventDict]) -> None:
    async with running(server.url, store, lease_s=1.0) as shard:
        device = await shard.stages.register()
        client = await shard.client(device)
        server.pause()
        await eventually(lambda: "lease.not_renewed" in events(logs))
        server.resume()
        await store.ping()
        sent = await shard.stages.sender.send(shard.stages.project, to(device))
        (message,) = await client.frames(1)
        assert json.loads(message.payload)["id"] == sent


async def test_a_shard_that_is_told_to_stop_does_not_wait_for_its_store() -> None:
    ready: list[dict[str, str]] = []
    context = RoleContext("shard-0", Clock(), Entropy(), CollectorRegistry(), ready.append)
    with running_server() as server, capture_logs() as logs:
        server.pause()
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            settings = Settings(store_url=server.url, device_port=0, drain_s=0.0)
            tasks.create_task(run(settings, context))
            await eventually(lambda: "shard.waits_for_store" in events(logs))
            context.stopping.set()


async def test_the_probe_does_not_come_back_while_the_shard_drains(
    fresh: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "INTERVAL_S", 0.005)
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.05)
    async with running(*fresh, drain_s=0.5) as shard:
        device = await shard.stages.register()
        client = await shard.client(device)
        await eventually(lambda: shard.count("pushwire_probe_ok", role="shard"))
        with capture_logs() as logs:
            shard.context.stopping.set()
            assert len(await client.to_end()) == 2
    assert not [event for event in events(logs) if event.startswith("probe")]
    assert len(await shard.keys("*:d:*")) == 1


def test_sessions_get_the_limits_that_are_set() -> None:
    settings = Settings(window=7, ack_timeout_s=2.5, heartbeat_s=60.0, connect_timeout_s=3.0)
    tally = Tally()
    limits = session_limits(settings, ShardId("s"), tally)
    assert (limits.shard, limits.tally, limits.window) == ("s", tally, 7)
    assert limits.ack_timeout_ms == 2_500
    assert limits.heartbeat_ms == 60_000
    assert limits.connect_timeout_ms == 3_000


async def test_counters_are_moved_into_the_metrics_while_the_shard_runs(
    fresh: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_TALLY_S", 0.01)
    async with running(*fresh) as shard:
        await eventually(lambda: shard.count("pushwire_deliveries_total"))
