"""The ops port: what it answers, and when it says that messages would not get through."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from gateway.ops import PROBE_FRESH_MS, Exposition, forget_process, serve_ops, store_problems
from router.model.errors import StoreUnavailableError
from router.model.ids import ShardId
from router.telemetry.metrics import SupervisorMetrics

_NOW_MS = 1_800_000_000_000


async def _well() -> None:
    """Answer a ping."""


async def _away() -> None:
    raise StoreUnavailableError


@pytest.mark.parametrize(
    ("leases", "parts"),
    [
        ({"s1": {"probe_ms": _NOW_MS}}, set()),
        ({"s1": {"probe_ms": _NOW_MS - PROBE_FRESH_MS}}, set()),
        ({"s1": {"probe_ms": _NOW_MS - PROBE_FRESH_MS - 1}}, {"shard s1"}),
        ({"s1": {"probe_ms": 0}, "s2": {"probe_ms": _NOW_MS}}, {"shard s1"}),
        ({"s1": "nonsense"}, {"shard s1"}),
        ({}, {"shards"}),
    ],
)
async def test_problems_follow_the_probes(leases: dict[str, object], parts: set[str]) -> None:
    async def shards() -> Mapping[ShardId, bytes]:
        return {ShardId(name): json.dumps(value).encode() for name, value in leases.items()}

    assert set(await store_problems(_well, shards, _NOW_MS)) == parts


async def test_store_away_is_the_problem() -> None:
    async def shards() -> Mapping[ShardId, bytes]:
        return {}

    assert set(await store_problems(_away, shards, _NOW_MS)) == {"store"}


async def test_ops_port_answers() -> None:
    registry = CollectorRegistry()
    SupervisorMetrics(registry).restarts.labels("shard").inc()
    problems: dict[str, str] = {}

    async def found() -> Mapping[str, str]:
        return problems

    async with (
        serve_ops("127.0.0.1", 0, Exposition(registry), found) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get("/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with session.get("/readyz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ready"})
        problems["store"] = "is away"
        async with session.get("/readyz") as response:
            assert response.status == 503
            assert (await response.json())["problems"] == problems
        async with session.get("/metrics") as response:
            assert response.content_type == "text/plain"
            assert 'pushwire_process_restarts_total{role="shard"} 1.0' in await response.text()


_COUNTS = """
import time
from prometheus_client import CollectorRegistry
from router.telemetry.metrics import Metrics
metrics = Metrics(CollectorRegistry())
metrics.acks.inc(2)
metrics.connections.set(5)
print(flush=True)
time.sleep(60)
"""


async def test_metrics_of_processes_are_added_up_and_gauges_end_with_them(tmp_path: Path) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _COUNTS),
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()
    exposition = Exposition(CollectorRegistry(), tmp_path)
    text = exposition.render().decode()
    assert "pushwire_acks_total 4.0" in text
    assert "pushwire_connections 10.0" in text
    for process in processes:
        process.kill()
        await process.wait()
    forget_process(tmp_path, processes[0].pid)
    text = exposition.render().decode()
    assert "pushwire_acks_total 4.0" in text
    assert "pushwire_connections 5.0" in text
