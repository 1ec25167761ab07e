"""Kinds of work measured in turns, so that a machine whose mood changes is fair to each."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from loadtest.recorder import Figure, medians

Measured = TypeVar("Measured")
Parts = dict[str, float]
"""What each part (a process, say) took."""


async def in_turns(
    kinds: Sequence[str],
    rounds: int,
    measure: Callable[[str], Awaitable[Measured]],
    say: Callable[[dict[str, Measured]], None],
) -> dict[str, list[Measured]]:
    """Measure each kind `rounds` times, after a round that warms up and does not count.

    Args:
        kinds: every other round takes them in the opposite order.
        rounds: how many of them count.
        measure: measures one kind once.
        say: told of each round, the first among them.
    """
    measured: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        order = kinds if number % 2 else [*reversed(kinds)]
        this = {kind: await measure(kind) for kind in order}
        say(this)
        if number > 0:
            for kind, value in this.items():
                measured[kind].append(value)
    return measured


def total(parts: Parts) -> float:
    """Add up all parts."""
    return sum(parts.values())


def cpu_figure(
    name: str, runs: Sequence[Parts], note: str, target: float | None = None, unit: str = "µs"
) -> Figure:
    """Make a figure of CPU time: the sum of the parts in each run, and the median of each part."""
    return Figure(
        name=name,
        unit=unit,
        runs=tuple(map(total, runs)),
        target=target,
        parts=medians(runs),
        note=note,
    )


def ratio_figure(
    name: str, runs: Sequence[Parts], others: Sequence[Parts], target: float, note: str
) -> Figure:
    """Make a figure of what one kind took of another, round by round."""
    pairs = zip(runs, others, strict=True)
    ratios = tuple(total(one) / total(other) for one, other in pairs)
    return Figure(name=name, unit="times", runs=ratios, target=target, note=note)
