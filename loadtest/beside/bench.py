"""What is measured on each server: memory, CPU of a topic and of single messages, latency."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtest.beside.side import BATCH, SETTLE_S, Side, beside
from loadtest.peer import Guarantees, Peer
from loadtest.recorder import Figure, percentile
from loadtest.turns import cpu_figure, in_turns, total

_KIB: Final = 1024
_SHARES: Final = {"p50": 0.5, "p99": 0.99}

Say = Callable[[str], None]


class Scale(msgspec.Struct, frozen=True):
    """How much of everything; `QUICK` only shows that it all works."""

    rounds: int = 3
    devices: int = 2_000
    warm_up: int = 100
    """Devices that are there before memory is looked at: for what the first ones take alone."""
    publications: int = 30
    """To all devices, in each round."""
    messages: int = 10_000
    """To one device each, in each round."""
    rate: float = 500.0
    """Messages a second, where latency is measured."""
    steady_s: float = 6.0
    topic_bytes: int = 200
    message_bytes: int = 300
    settle_s: float = SETTLE_S
    """After the last message of a round."""


QUICK: Final = Scale(
    rounds=1,
    devices=40,
    warm_up=10,
    publications=3,
    messages=400,
    rate=200.0,
    steady_s=0.5,
    settle_s=0.1,
)


class Result(msgspec.Struct):
    """What came of one server."""

    name: str
    guarantees: Guarantees
    version: str = ""
    missing: str = ""
    """Why it was left out; empty where it was measured."""
    figures: list[Figure] = []


async def measure(peers: Mapping[str, Peer], scale: Scale, say: Say) -> list[Result]:
    """Run all servers that are there, and give each the same work, in turns.

    Raises:
        ConnectionError: one did not come up, or did not deliver (perhaps in an ExceptionGroup).
    """
    results = {
        name: Result(name, peer.guarantees, missing=peer.missing()) for name, peer in peers.items()
    }
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-peers-")))
        sides: dict[str, Side] = {}
        for number, (name, peer) in enumerate(peers.items()):
            if results[name].missing:
                say(f"{name}: left out: {results[name].missing}")
                continue
            # A source address each, so that nobody's ports run out.
            source = f"127.0.0.{2 + number}"
            opened = beside(peer, folder, source, scale.settle_s)
            sides[name] = await stack.enter_async_context(opened)
            results[name].version = sides[name].server.version
        for step in (_memory, _topic, _lives, _latency) if sides else ():
            for name, figures in (await step(sides, scale, say)).items():
                results[name].figures += figures
    return list(results.values())


async def _memory(sides: Mapping[str, Side], scale: Scale, say: Say) -> dict[str, list[Figure]]:
    figures: dict[str, list[Figure]] = {}
    count = scale.devices - scale.warm_up
    for name, side in sides.items():
        await side.connect(scale.warm_up)
        parts = {role: value / _KIB for role, value in (await side.connect(count)).items() if value}
        say(f"{name} {side.server.version}: {total(parts):.1f} KiB a device")
        figures[name] = [
            Figure(
                name="memory per connected device",
                unit="KiB",
                runs=(total(parts),),
                parts=parts,
                note=f"growth of all processes over {count} devices, idle, each in one topic",
            )
        ]
    return figures


async def _topic(sides: Mapping[str, Side], scale: Scale, say: Say) -> dict[str, list[Figure]]:
    runs = await in_turns(
        list(sides),
        scale.rounds,
        lambda name: sides[name].fan_out(scale.publications, 1, scale.topic_bytes),
        functools.partial(_tell, say, "per delivery to a topic"),
    )
    note = f"{scale.topic_bytes} bytes, {scale.devices} devices, {scale.publications} messages a"
    note += " round, each when all have the one before"
    return {
        name: [cpu_figure("CPU per delivery to a topic", parts, note)]
        for name, parts in runs.items()
    }


async def _lives(sides: Mapping[str, Side], scale: Scale, say: Say) -> dict[str, list[Figure]]:
    figures: dict[str, list[Figure]] = {name: [] for name in sides}
    for batch, how in ((1, "one a call"), (BATCH, f"{BATCH} a call")):
        able = [name for name, side in sides.items() if batch == 1 or side.peer.batches]
        runs = await in_turns(
            able,
            scale.rounds,
            lambda name, batch=batch: sides[name].lives(  # type: ignore[misc]
                scale.messages, batch, scale.message_bytes
            ),
            functools.partial(_tell, say, f"per message, {how}"),
        )
        note = f"{scale.message_bytes} bytes, {scale.messages} messages a round, closed loop"
        for name, parts in runs.items():
            figures[name].append(cpu_figure(f"CPU per message to one device, {how}", parts, note))
    return figures


async def _latency(sides: Mapping[str, Side], scale: Scale, say: Say) -> dict[str, list[Figure]]:
    count = int(scale.rate * scale.steady_s)

    async def once(name: str) -> dict[str, float]:
        values = await sides[name].latencies_us(count, scale.rate, scale.message_bytes)
        return {key: percentile(values, share) / 1000 for key, share in _SHARES.items()}

    def tell(this: dict[str, dict[str, float]]) -> None:
        parts = (f"{name} {run['p50']:.2f}/{run['p99']:.2f}" for name, run in this.items())
        say(f"ms send → device, p50/p99: {', '.join(parts)}")

    runs = await in_turns(list(sides), scale.rounds, once, tell)
    note = f"{scale.rate:.0f} messages/s, open loop, {scale.steady_s:g} s a round"
    return {
        name: [
            Figure(
                name=f"latency send → device, {key}",
                unit="ms",
                runs=tuple(run[key] for run in measured),
                note=note,
            )
            for key in _SHARES
        ]
        for name, measured in runs.items()
    }


def _tell(say: Say, what: str, this: Mapping[str, dict[str, float]]) -> None:
    say(f"µs {what}: " + ", ".join(f"{name} {total(parts):.1f}" for name, parts in this.items()))


def names_of(results: Sequence[Result]) -> list[str]:
    """Name every figure that some server has, in the order in which they were measured."""
    names = {figure.name: None for result in results for figure in result.figures}
    return list(names)
