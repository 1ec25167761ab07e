"""Runs one seed to its verdict."""

import asyncio
import contextlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, cast

import structlog

from tests.simulation.clock import StandstillError, VirtualLoop
from tests.simulation.context import SOUND, Context, Parts
from tests.simulation.faults import WHOLE, Cut, Faults
from tests.simulation.world import World

EXPECTED: Final = {"shard.lease_lost"}
"""Errors that processes may log: they were caused, and are dealt with."""


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
    """What happened in it: events of messages, faults, logs, metrics with their labels."""


def play(seed: int, parts: Parts | None = None, cut: Cut = WHOLE) -> Report:
    """Run one seed, or a shorter run of it.

    Raises:
        BrokenPromiseError: a check failed.
        SimulationError: something raised, or logged an error.
    """
    with (
        _listening() as ear,
        # Of the dead some are buried before they begin.
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        context = Context(seed, parts or SOUND, cut, cast("VirtualLoop", runner.get_loop()))
        ear.fail, ear.heard = context.fail, context.reached
        try:
            runner.run(_perform(context))
        except (StandstillError, ExceptionGroup) as error:
            raise SimulationError(_told(seed, cut, context, repr(error))) from error
        finally:
            _bury(context)
        if context.failed.done():
            raise BrokenPromiseError(_told(seed, cut, context, context.failed.result()))
        return Report(context.digest, _reached(context))


class _Ear:
    """Hears what the processes log: an error of theirs fails the run."""

    def __init__(self) -> None:
        self.fail: Callable[[str], None] = lambda _text: None
        self.heard: set[str] = set()

    def __call__(self, _logger: object, method: str, told: dict[str, Any]) -> dict[str, Any]:
        if method in {"error", "exception", "critical"} and told["event"] not in EXPECTED:
            cause = told.get("exc_info")
            known = cause if isinstance(cause, BaseException) else sys.exception()
            lines = traceback.format_exception(known) if known is not None else []
            text = {name: value for name, value in told.items() if name != "exc_info"}
            self.fail(f"it was logged: {text}\n{''.join(lines)}")
        self.heard.add(str(told["event"]))
        raise structlog.DropEvent


@contextlib.contextmanager
def _listening() -> Iterator[_Ear]:
    ear, processors = _Ear(), structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [ear]
    try:
        yield ear
    finally:
        processors[:] = before


class _EndOfPlayError(Exception):
    """Ends whatever still runs."""


async def _perform(context: Context) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            await World(context, tasks).play()
            tasks.create_task(_end())
    except* _EndOfPlayError:
        pass


def _bury(context: Context) -> None:
    """Let what still runs be cancelled, of dead processes too, unheard."""
    context.over = True
    context.loop.set_exception_handler(lambda _loop, _problem: None)
    for process in context.processes:
        process.bury()


async def _end() -> None:
    raise _EndOfPlayError


def _told(seed: int, cut: Cut, context: Context, problem: str) -> str:
    again = f"PUSHWIRE_SIM_SEED={seed}" + (f" PUSHWIRE_SIM_CUT={cut}" if cut != WHOLE else "")
    return context.checks.shorten(
        f"seed {seed}: {problem}\n\n{context.scale}\n{_of(context.drawn)}\n\n{context.trace()}\n\n"
        f"Again: {again} .venv/bin/pytest tests/simulation/test_simulation.py -k holds"
    )


def _of(drawn: Faults) -> str:
    """Name the faults that a run has."""
    had = {one.name: getattr(drawn, one.name) for one in fields(drawn)}
    return ", ".join(f"{name}={value:.3g}" for name, value in had.items() if value)


def _reached(context: Context) -> frozenset[str]:
    found = {event.value for event in context.checks.events} | context.reached
    for metric in context.counted.collect():
        for sample in metric.samples:
            if sample.value and sample.name.endswith("_total"):
                labels: dict[str, Any] = sample.labels
                name = sample.name.removeprefix("pushwire_").removesuffix("_total")
                found.add(" ".join([name, *labels.values()]))
    return frozenset(found)
