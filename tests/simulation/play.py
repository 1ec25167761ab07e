"""Runs one seed to its verdict."""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from tests.simulation.clock import StandstillError, VirtualLoop
from tests.simulation.context import Context, Parts
from tests.simulation.world import World


class SimulationError(AssertionError):
    """A run failed; the text tells why, its seed and its last events."""


class BrokenPromiseError(SimulationError):
    """A check found that a promise was broken."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    digest: int
    """Of the whole trace."""
    reached: frozenset[str]
    """What happened in it: events of messages, and metrics with their labels."""


def play(seed: int, parts: Parts | None = None) -> Report:
    """Run one seed.

    Raises:
        BrokenPromiseError: a check failed.
        SimulationError: something raised, or logged an error.
    """
    with (
        structlog.testing.capture_logs() as logs,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        context = Context(seed, parts or Parts(), runner.get_loop())
        try:
            runner.run(_perform(context))
        except (StandstillError, ExceptionGroup) as error:
            raise SimulationError(_told(seed, context, repr(error))) from error
        if context.failed.done():
            raise BrokenPromiseError(_told(seed, context, context.failed.result()))
        if errors := [log for log in logs if log["log_level"] in {"error", "critical"}]:
            raise SimulationError(_told(seed, context, f"these were logged: {errors}"))
        return Report(context.digest, _reached(context))


class _EndOfPlayError(Exception):
    """Ends whatever still runs."""


async def _perform(context: Context) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            await World(context, tasks).play()
            tasks.create_task(_end())
    except* _EndOfPlayError:
        pass


async def _end() -> None:
    raise _EndOfPlayError


def _told(seed: int, context: Context, problem: str) -> str:
    return context.checks.shorten(
        f"seed {seed}: {problem}\n\n{context.scale}\n{context.drawn}\n\n{context.trace()}\n\n"
        f"Again: PUSHWIRE_SIM_SEED={seed} .venv/bin/pytest tests/simulation/test_simulation.py"
    )


def _reached(context: Context) -> frozenset[str]:
    found = {event.value for event in context.checks.events}
    for metric in context.counted.collect():
        for sample in metric.samples:
            if sample.value and sample.name.endswith("_total"):
                labels: dict[str, Any] = sample.labels
                name = sample.name.removeprefix("pushwire_").removesuffix("_total")
                found.add(" ".join([name, *labels.values()]))
    return frozenset(found)
