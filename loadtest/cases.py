"""What `make bench` measures, one function a case."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from loadtest import senders
from loadtest.fleet import Answer, Close, Connect, Expect, FleetProcess, Register, fleet_process
from loadtest.gateway import Gateway, create_project, serve
from loadtest.processes import CpuMeter, memory_bytes
from loadtest.recorder import Figure, percentile
from loadtest.senders import Account
from loadtest.turns import cpu_figure

_PROJECT: Final = "bench"
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1}
_SETTLE_S: Final = 1.0


class Scale(msgspec.Struct, frozen=True):
    """How much of everything; `QUICK` only shows that it all works."""

    runs: int = 3
    idle_devices: int = 15_000
    fleets: int = 2
    devices: int = 2_000
    messages: int = 20_000
    steady_s: float = 20.0
    hang_s: float = 180.0
    """How long a provider that hangs is looked at."""
    subscribers: int = 1_000
    published: int = 1_000
    topic_devices: int = 5_000
    topic_messages: int = 40
    """To a topic, in each run."""
    burst_devices: int = 1_000
    burst: int = 64
    """Messages to a topic at once."""
    bursts: int = 5
    """In each run."""
    fan_out_devices: int = 10_000
    fan_outs: int = 10
    away: int = 1_000_000
    """Subscribers; and the subscriptions whose memory is measured."""
    publishes: int = 2_000
    publish_rounds: int = 7
    attaches: int = 2_000
    attach_rounds: int = 5


QUICK: Final = Scale(
    runs=1,
    idle_devices=1_000,
    fleets=2,
    devices=200,
    messages=2_000,
    steady_s=3.0,
    hang_s=10.0,
    subscribers=100,
    published=200,
    topic_devices=200,
    topic_messages=20,
    burst_devices=200,
    bursts=1,
    fan_out_devices=200,
    fan_outs=2,
    away=10_000,
    publishes=200,
    publish_rounds=1,
    attaches=100,
    attach_rounds=1,
)
STEADY_RATE: Final = 500.0
SINGLE_AT_ONCE: Final = 64
BATCH_SIZE: Final = 100
BATCHES_AT_ONCE: Final = 4

Say = Callable[[str], None]
"""Tells the person at the terminal how far it is."""
Case = Callable[[Scale, Say], Awaitable[list[Figure]]]


async def idle(scale: Scale, say: Say) -> list[Figure]:
    """Connect many devices that then do nothing: memory of each, CPU of connecting, CPU at rest.

    Each run has fresh processes, so that memory freed by an earlier run does not hide growth.
    """
    memory: list[float] = []
    connects: list[dict[str, float]] = []
    rests: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="pushwire-bench-") as folder:
        data_dir = Path(folder, "data")
        async with contextlib.AsyncExitStack() as stack:
            fleets = [await stack.enter_async_context(fleet_process()) for _ in range(scale.fleets)]
            for run in range(scale.runs):
                async with serve(data_dir, flags=_FLAGS) as gateway:
                    if run == 0:
                        await _register(gateway, fleets, scale.idle_devices // scale.fleets + 50)
                    per_device, cpu, rest = await _idle_run(gateway, fleets, scale, say)
                    memory.append(per_device / 1024)
                    connects.append(cpu)
                    rests.append(rest)
                    await _all(fleets, Close())
    note = f"{scale.idle_devices} devices, 1 shard"
    return [
        Figure(
            name="shard memory per idle device",
            unit="KiB",
            runs=tuple(memory),
            target=4.0,
            note=note,
        ),
        cpu_figure("CPU per connect", connects, note, 600.0),
        cpu_figure("CPU at rest, all devices connected", rests, note, unit="% of a core"),
    ]


async def _idle_run(
    gateway: Gateway, fleets: list[FleetProcess], scale: Scale, say: Say
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Give the bytes and the CPU µs by role per device, and the CPU % by role at rest."""
    shard = gateway.pids()["shard"][0]
    await _connect(gateway, fleets, 50)  # code paths, buffers and tables that are there anyway
    await asyncio.sleep(_SETTLE_S)
    before = memory_bytes(shard)
    meter = CpuMeter(gateway.pids())
    per_fleet = scale.idle_devices // scale.fleets
    answers = await _connect(gateway, fleets, per_fleet)
    await asyncio.sleep(_SETTLE_S)
    spent = meter.spent_s()
    count = per_fleet * scale.fleets
    per_device = (memory_bytes(shard) - before) / count
    rest_s = 5.0 if scale.runs > 1 else 1.0
    meter = CpuMeter(gateway.pids())
    await asyncio.sleep(rest_s)
    rest = {role: 100 * value / rest_s for role, value in meter.spent_s().items()}
    say(
        f"{count} devices in {max(a.seconds for a in answers):.1f} s, "
        f"{sum(a.refused for a in answers)} tried again, {per_device:.0f} bytes each, "
        f"{1e6 * sum(spent.values()) / count:.0f} µs per connect"
    )
    return per_device, {role: 1e6 * value / count for role, value in spent.items()}, rest


async def single(scale: Scale, say: Say) -> list[Figure]:
    """One message a request on keep-alive connections: CPU of a message's life."""

    async def send(account: Account, tokens: list[str]) -> None:
        await senders.send_singly(account, tokens, scale.messages, SINGLE_AT_ONCE)

    note = f"300 bytes, {scale.devices} devices, {SINGLE_AT_ONCE} keep-alive connections"
    return await _lives("CPU per message", 300.0, note, scale, send, say)


async def batch(scale: Scale, say: Say) -> list[Figure]:
    """Batches of 100: CPU of a message's life."""

    async def send(account: Account, tokens: list[str]) -> None:
        await senders.send_batches(account, tokens, scale.messages, BATCH_SIZE, BATCHES_AT_ONCE)

    note = f"300 bytes, {scale.devices} devices, sendBatch of {BATCH_SIZE}"
    return await _lives("CPU per message in a batch", 150.0, note, scale, send, say)


async def _lives(
    name: str,
    target: float,
    note: str,
    scale: Scale,
    send: Callable[[Account, list[str]], Awaitable[None]],
    say: Say,
) -> list[Figure]:
    runs: list[dict[str, float]] = []
    rates: list[float] = []
    async with _connected(scale) as (gateway, fleet, account, tokens):
        for run in range(scale.runs + 1):
            meter = CpuMeter(gateway.pids())
            begun = asyncio.get_running_loop().time()
            async with asyncio.TaskGroup() as group:
                expected = group.create_task(fleet.ask(Expect(scale.messages)))
                group.create_task(_coroutine(send(account, tokens)))
            seconds = asyncio.get_running_loop().time() - begun
            _check(expected.result(), scale.messages)
            await asyncio.sleep(_SETTLE_S)  # acks and receipts
            cpu = {key: 1e6 * spent / scale.messages for key, spent in meter.spent_s().items()}
            say(f"{scale.messages / seconds:.0f} messages/s, {sum(cpu.values()):.0f} µs each")
            if run > 0:  # the first one warms up
                runs.append(cpu)
                rates.append(scale.messages / seconds)
    note += f", {percentile(rates, 0.5):.0f} messages/s beside the generator"
    return [cpu_figure(name, runs, note, target)]


async def latency(scale: Scale, say: Say) -> list[Figure]:
    """A steady open-loop load: from the time a send was due to its frame at the device."""
    count = int(scale.steady_s * STEADY_RATE)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    runs: list[dict[str, float]] = []
    async with _connected(scale) as (_, fleet, account, tokens):
        for run in range(scale.runs + 1):
            async with asyncio.TaskGroup() as group:
                expected = group.create_task(fleet.ask(Expect(count)))
                group.create_task(
                    senders.send_steadily(account, tokens, count, STEADY_RATE, SINGLE_AT_ONCE)
                )
            answer = expected.result()
            _check(answer, count)
            values = {
                key: percentile(answer.latencies_us, share) / 1000 for key, share in shares.items()
            }
            say(", ".join(f"{key} {value:.1f} ms" for key, value in values.items()))
            if run > 0:
                runs.append(values)
    note = f"{STEADY_RATE:.0f} messages/s, open loop, {scale.steady_s:.0f} s a run"
    targets = {"p50": 5.0, "p99": 25.0}
    return [
        Figure(
            name=f"latency send → device, {key}",
            unit="ms",
            runs=tuple(run[key] for run in runs),
            target=targets.get(key),
            note=note,
        )
        for key in shares
    ]


CASES: Final[dict[str, Case]] = {
    "idle": idle,
    "single": single,
    "batch": batch,
    "latency": latency,
}


@contextlib.asynccontextmanager
async def _connected(
    scale: Scale,
) -> AsyncIterator[tuple[Gateway, FleetProcess, Account, list[str]]]:
    with tempfile.TemporaryDirectory(prefix="pushwire-bench-") as folder:
        data_dir = Path(folder, "data")
        async with serve(data_dir, flags=_FLAGS) as gateway, fleet_process() as fleet:
            account, tokens = await _register(gateway, [fleet], scale.devices)
            await _connect(gateway, [fleet], scale.devices)
            yield gateway, fleet, account, tokens


async def _register(
    gateway: Gateway, fleets: list[FleetProcess], per_fleet: int
) -> tuple[Account, list[str]]:
    project = await create_project(gateway.data_dir, _PROJECT)
    command = Register(gateway.api, project.project, project.client_key, per_fleet)
    answers = await _all(fleets, command)
    tokens = [token for answer in answers for token in answer.tokens]
    return Account(gateway.api, project.project, project.api_key), tokens


async def _connect(gateway: Gateway, fleets: list[FleetProcess], per_fleet: int) -> list[Answer]:
    async with asyncio.TaskGroup() as group:
        # A source address each: one address has fewer ports than a shard has devices.
        asked = [
            group.create_task(
                fleet.ask(Connect(gateway.devices, per_fleet, source=f"127.0.0.{2 + number}"))
            )
            for number, fleet in enumerate(fleets)
        ]
    return [task.result() for task in asked]


async def _all(fleets: list[FleetProcess], command: Register | Close) -> list[Answer]:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(fleet.ask(command)) for fleet in fleets]
    return [task.result() for task in asked]


async def _coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


def _check(answer: Answer, expected: int) -> None:
    if answer.received != expected:
        raise ConnectionError(f"{answer.received} of {expected} messages arrived")
