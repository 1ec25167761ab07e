"""What the export costs: a case of `make bench`."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from loadtest import senders
from loadtest.cases import BATCH_SIZE, BATCHES_AT_ONCE, Say, Scale
from loadtest.fleet import Connect, Expect, Register, fleet_process
from loadtest.gateway import create_project, serve
from loadtest.http import encode_request, open_connection
from loadtest.processes import CpuMeter
from loadtest.recorder import Figure, medians
from loadtest.senders import Account

TARGET_US: Final = 40.0
"""25,000 events in a second of the worker's CPU, with all else that it does."""
FORMATS: Final = ("", "ndjson", "parquet")
"""The empty one is the worker without an export: what the others are compared with."""
_NAMES: Final = {"": "no export", "ndjson": "exported as NDJSON", "parquet": "exported as Parquet"}
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1, "export_rotate_s": 1.0}
_PARTS: Final = frozenset({"worker", "store"})
_EVENTS: Final = 3
"""Of each message: accepted, sent, delivered."""
_EXPORTED: Final = "pushwire_export_events_total"
_RECEIPTS: Final = "pushwire_receipts_total"
_LIMIT_S: Final = 120.0
_POLL_S: Final = 0.2

Send = Callable[[], Awaitable[None]]
"""Sends the messages of a run, and waits until they are delivered."""
Count = Callable[[], Awaitable[float]]
"""Tells how many events the worker is done with."""


async def export(scale: Scale, say: Say) -> list[Figure]:
    """Deliver messages while all events go to files: the worker's CPU per event."""
    figures = []
    for format_ in FORMATS:
        runs = await _runs(scale, format_, say)
        figures.append(
            Figure(
                name=f"worker CPU per event, {_NAMES[format_]}",
                unit="µs",
                runs=tuple(run["worker"] for run in runs),
                target=TARGET_US,
                parts={role: value for role, value in medians(runs).items() if role in _PARTS},
                note=f"all that a worker does, {scale.devices} devices, a file each second",
            )
        )
    return figures


async def _runs(scale: Scale, format_: str, say: Say) -> list[dict[str, float]]:
    runs: list[dict[str, float]] = []
    expected = scale.messages * _EVENTS
    async with _gateway(scale, format_) as (pids, count, send):
        for run in range(scale.runs + 1):
            before = await count()
            meter = CpuMeter(pids)
            await send()
            await _until(count, before + expected)
            spent = {role: 1e6 * used / expected for role, used in meter.spent_s().items()}
            say(f"{_NAMES[format_]}: {spent['worker']:.1f} µs an event, {spent['store']:.1f} store")
            if run > 0:  # the first one warms up
                runs.append(spent)
    return runs


async def _until(count: Count, wanted: float) -> None:
    async with asyncio.timeout(_LIMIT_S):
        while await count() < wanted:  # noqa: ASYNC110 - the gateway tells nobody
            await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def _gateway(
    scale: Scale, format_: str
) -> AsyncIterator[tuple[Mapping[str, list[int]], Count, Send]]:
    """Run a gateway with connected devices, and an export where a format is given."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-"))
        chosen: dict[str, object] = {**_FLAGS}
        if format_:
            chosen |= {"export_url": Path(folder, "out").as_uri(), "export_format": format_}
        gateway = await stack.enter_async_context(serve(Path(folder, "data"), flags=chosen))
        fleet = await stack.enter_async_context(fleet_process())
        project = await create_project(gateway.data_dir, "bench")
        registered = await fleet.ask(
            Register(gateway.api, project.project, project.client_key, scale.devices)
        )
        await fleet.ask(Connect(gateway.devices, scale.devices, source="127.0.0.2"))
        account = Account(gateway.api, project.project, project.api_key)

        async def send() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(fleet.ask(Expect(scale.messages)))
                group.create_task(_batches(account, registered.tokens, scale.messages))

        async def count() -> float:
            return await _metric(gateway.ops, _EXPORTED if format_ else _RECEIPTS)

        yield gateway.pids(), count, send


async def _batches(account: Account, tokens: list[str], count: int) -> None:
    await senders.send_batches(account, tokens, count, BATCH_SIZE, BATCHES_AT_ONCE)


async def _metric(ops: str, name: str) -> float:
    """Sum a metric over its labels."""
    connection = await open_connection(ops)
    response = await connection.request(encode_request("GET", ops, "/metrics", b""))
    connection.close()
    lines = response.body.decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((name + " ", name + "{"))
    )
