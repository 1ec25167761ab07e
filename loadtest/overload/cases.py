"""Goodput at three times the peak: what is still done in time while the rest is refused.

The gateway has one half of the processors to itself and the generator the other, so that offering
more does not take from the gateway.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from loadtest.cases import Say, Scale
from loadtest.fleet import Connect, Expect, FleetProcess, Register, fleet_process
from loadtest.gateway import RATES_LIFTED, Gateway, Project, create_project, serve
from loadtest.overload.flood import Flood, Flooded, FloodProcess, flood_process
from loadtest.overload.storm import Enrol, Storm, Stormed, StormProcess, storm_process
from loadtest.processes import CpuMeter
from loadtest.recorder import Figure, percentile
from loadtest.senders import Account, send_steadily

TIMES: Final = 3
"""So many times the peak is offered."""
LOST: Final = 20.0
"""Percent of the peak that may be lost then."""
BOUND_S: Final = 1.0
"""A message counts that is delivered within so many seconds of when it was due."""
WELCOME_S: Final = 3.0
"""The same of a connection: its welcome."""
_PROJECT: Final = "overload"
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1}
_DEVICES: Final = 500
_STORM_DEVICES: Final = 6_000
_STEP: Final = 1.25
_KEPT_UP: Final = 0.95
"""A rate counts as carried where so much of it was done in time."""
_DRAIN_S: Final = 3.0
_FLOODS: Final = 2
_QUIET_RATE: Final = 100.0


class _Round(msgspec.Struct):
    """What became of one rate."""

    offered: float
    """A second."""
    good: float
    """A second, in time."""
    p50_ms: float
    p99_ms: float
    """Of what was delivered."""
    told: str


class _Stage(msgspec.Struct):
    gateway: Gateway
    project: Project
    fleet: FleetProcess
    floods: list[FloodProcess]
    tokens: list[str]


@contextlib.contextmanager
def _half(number: int) -> Iterator[None]:
    """Start processes on one half of the processors meanwhile; with one there are no halves."""
    whole = sorted(os.sched_getaffinity(0))
    middle = len(whole) // 2
    half = whole[:middle] if number == 0 else whole[middle:]
    os.sched_setaffinity(0, half or whole)
    try:
        yield
    finally:
        os.sched_setaffinity(0, whole)


@contextlib.asynccontextmanager
async def _stage(devices: int) -> AsyncIterator[_Stage]:
    with tempfile.TemporaryDirectory(prefix="pushwire-bench-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            with _half(0):
                serving = serve(Path(folder, "data"), flags=_FLAGS, lifted=RATES_LIFTED)
                gateway = await stack.enter_async_context(serving)
            with _half(1):
                project = await create_project(gateway.data_dir, _PROJECT)
                fleet = await stack.enter_async_context(fleet_process())
                floods = [await stack.enter_async_context(flood_process()) for _ in range(_FLOODS)]
            register = Register(gateway.api, project.project, project.client_key, devices)
            answer = await fleet.ask(register)
            await fleet.ask(Connect(gateway.devices, devices))
            yield _Stage(gateway, project, fleet, floods, answer.tokens)


async def overload(scale: Scale, say: Say) -> list[Figure]:
    """Messages, one a request, at three times the peak."""
    return await _overload(scale, say, 1, 1_000.0)


async def overload_batch(scale: Scale, say: Say) -> list[Figure]:
    """Messages in batches of 100 at three times the peak."""
    return await _overload(scale, say, 100, 2_000.0)


async def _overload(scale: Scale, say: Say, batch: int, first: float) -> list[Figure]:
    step_s = scale.steady_s / 4
    async with _stage(_DEVICES) as stage:
        await _flood(stage, first / 2, step_s, batch)  # warms up
        peak = _Round(0, 0, 0, 0, "")
        rate = first
        while True:
            found = await _flood(stage, rate, step_s, batch)
            say(_line(found))
            peak = max(peak, found, key=lambda one: one.good)
            if found.good < _KEPT_UP * found.offered or found.offered < _KEPT_UP * rate:
                break
            rate *= _STEP
        runs = []
        for _ in range(scale.runs):
            runs.append(await _flood(stage, TIMES * peak.good, scale.steady_s, batch))
            say(_line(runs[-1]))
    name = "one a request" if batch == 1 else f"batches of {batch}"
    return _figures(f"messages, {name}", peak, runs, f"in {BOUND_S:g} s")


async def overload_connects(scale: Scale, say: Say) -> list[Figure]:
    """Connections at three times the peak, beside devices that get messages."""
    step_s = scale.steady_s / 4
    async with _stage(20) as stage, contextlib.AsyncExitStack() as stack:
        with _half(1):
            storm = await stack.enter_async_context(storm_process())
        project = stage.project
        count = min(_STORM_DEVICES, 2 * scale.idle_devices)
        await storm.ask(Enrol(stage.gateway.api, project.project, project.client_key, count))
        await _storm(stage, storm, 200.0, step_s)  # warms up
        peak = _Round(0, 0, 0, 0, "")
        rate = 400.0
        while True:
            found = await _storm(stage, storm, rate, step_s)
            say(_line(found))
            peak = max(peak, found, key=lambda one: one.good)
            if found.good < _KEPT_UP * found.offered or found.offered < _KEPT_UP * rate:
                break
            rate *= _STEP
        runs = []
        for _ in range(scale.runs):
            runs.append(await _storm(stage, storm, TIMES * peak.good, scale.steady_s))
            say(_line(runs[-1]))
    return _figures("connections", peak, runs, f"welcome in {WELCOME_S:g} s")


def _figures(what: str, peak: _Round, runs: list[_Round], bound: str) -> list[Figure]:
    times = f"{runs[0].offered:.0f}/s offered"
    return [
        Figure(name=f"{what}: peak, {bound}", unit="/s", runs=(peak.good,)),
        Figure(
            name=f"{what}: lost of it at {TIMES} times the peak",
            unit="%",
            runs=tuple(100 * (1 - one.good / peak.good) for one in runs),
            target=LOST,
            note=times,
        ),
        Figure(
            name=f"{what}: delivery meanwhile, p99",
            unit="ms",
            runs=tuple(one.p99_ms for one in runs),
            note=times,
        ),
    ]


async def _flood(stage: _Stage, rate: float, seconds: float, batch: int) -> _Round:
    """Offer a rate for a while, and count what was delivered in time."""
    flood = Flood(
        api=stage.gateway.api,
        project=stage.project.project,
        api_key=stage.project.api_key,
        tokens=stage.tokens,
        rate=rate / len(stage.floods),
        seconds=seconds,
        batch=batch,
    )
    meter = CpuMeter(stage.gateway.pids())
    async with asyncio.TaskGroup() as group:
        patience_s = seconds + _DRAIN_S
        seen = group.create_task(stage.fleet.ask(Expect(1_000_000_000, timeout_s=patience_s)))
        sent = [group.create_task(process.ask(flood)) for process in stage.floods]
        await asyncio.sleep(seconds)
        cpu = {role: f"{spent / seconds:.0%}" for role, spent in meter.spent_s().items()}
    answer = seen.result()
    # What comes later was accepted too, and must not be counted in the next round.
    await _drain(stage.fleet)
    results = [task.result() for task in sent]
    good = sum(latency <= BOUND_S * 1e6 for latency in answer.latencies_us)
    offered = sum(one.offered + one.unsent for one in results)
    return _Round(
        offered / seconds,
        good / seconds,
        *_quantiles(answer.latencies_us),
        f"{_told(results, answer.received, answer.repeats)}; CPU {cpu}",
    )


async def _drain(fleet: FleetProcess) -> None:
    while (await fleet.ask(Expect(1_000_000_000, timeout_s=1.0))).received:
        pass


def _told(results: list[Flooded], received: int, repeats: int) -> str:
    answers: dict[str, int] = {}
    for one in results:
        for status, count in one.answers.items():
            answers[status] = answers.get(status, 0) + count
    unsent = sum(one.unsent for one in results)
    hinted = sum(one.hinted for one in results)
    connections = sum(one.connections for one in results)
    spent = "+".join(f"{one.cpu_s:.1f}" for one in results)
    return (
        f"answers {answers}, hinted {hinted}, unsent {unsent}, over {connections} connections, "
        f"generator {spent} s; "
        f"{received} delivered, {repeats} repeats"
    )


async def _storm(stage: _Stage, storm: StormProcess, rate: float, seconds: float) -> _Round:
    """Have devices connect at a rate, while others get messages."""
    command = Storm(stage.gateway.devices, rate, seconds, "127.0.1.1", WELCOME_S)
    account = Account(stage.gateway.api, stage.project.project, stage.project.api_key)
    count = int(_QUIET_RATE * seconds)
    async with asyncio.TaskGroup() as group:
        blown = group.create_task(storm.ask(command))
        seen = group.create_task(stage.fleet.ask(Expect(count, timeout_s=seconds + 10)))
        group.create_task(send_steadily(account, stage.tokens, count, _QUIET_RATE, at_once=64))
    answer, result = seen.result(), blown.result()
    return _Round(
        (result.begun + result.unbegun) / seconds,
        result.welcomed / seconds,
        *_quantiles(answer.latencies_us),
        _blown(result, answer.received, count),
    )


def _blown(result: Stormed, received: int, count: int) -> str:
    return (
        f"late {result.late}, refused {result.refused}, hinted {result.hinted}, "
        f"unbegun {result.unbegun}; {received} of {count} messages"
    )


def _quantiles(latencies_us: list[int]) -> tuple[float, float]:
    if not latencies_us:
        return 0.0, 0.0
    return percentile(latencies_us, 0.5) / 1000, percentile(latencies_us, 0.99) / 1000


def _line(one: _Round) -> str:
    return (
        f"{one.offered:.0f}/s offered, {one.good:.0f}/s in time, "
        f"p50 {one.p50_ms:.0f}, p99 {one.p99_ms:.0f} ms; {one.told}"
    )
