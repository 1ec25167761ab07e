"""Latencies and figures: percentiles, medians, and the table that `make bench` prints. Pure."""

import statistics
from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity: a value per run, and what it is made of."""

    name: str
    unit: str
    runs: tuple[float, ...]
    target: float | None = None
    """Not more than this; None where no bound is set."""
    parts: dict[str, float] = {}
    """The median of each part (a process, say), in the same unit."""
    note: str = ""
    """The circumstances: how many, at which rate."""

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)

    @property
    def reached(self) -> bool:
        """Whether the median is within the bound (also true where there is none)."""
        return self.target is None or self.median <= self.target


class Latencies:
    """Collects latencies that are counted from the time at which a send was DUE.

    A sender that falls behind must not hide the wait of the messages that it sent late (coordinated
    omission): so the caller hands in the intended time, never the time of the actual send.
    """

    def __init__(self) -> None:
        self._values_us: list[int] = []

    def note(self, intended_ns: int, now_ns: int) -> None:
        """Note that what was due at `intended_ns` arrived at `now_ns` (one monotonic clock)."""
        self._values_us.append(max(0, now_ns - intended_ns) // 1000)

    def take(self) -> list[int]:
        """Give all latencies in microseconds, and forget them."""
        values, self._values_us = self._values_us, []
        return values


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least `share` (0 to 1) of all values do not exceed.

    Raises:
        ValueError: there are no values, or `share` is out of its range.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("needs at least one value and a share from 0 to 1")
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # ceil, nearest-rank method
    return ordered[max(0, int(rank) - 1)]


def medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Give the median of each key over all runs; a key that a run lacks counts as 0 there."""
    keys = {key: None for run in runs for key in run}
    return {key: statistics.median([run.get(key, 0.0) for run in runs]) for key in keys}


def table(figures: Sequence[Figure]) -> str:
    """Write the figures as a Markdown table."""
    rows = [("what", "median", "to reach", "runs", "parts", "circumstances")]
    for figure in figures:
        bound = "" if figure.target is None else f"≤ {number(figure.target)} {figure.unit}"
        if not figure.reached:
            bound += " MISSED"
        rows.append(
            (
                figure.name,
                f"{number(figure.median)} {figure.unit}",
                bound,
                ", ".join(map(number, figure.runs)),
                ", ".join(f"{key} {number(value)}" for key, value in figure.parts.items()),
                figure.note,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Write a value with three digits."""
    if abs(value) >= 100:  # noqa: PLR2004 - three digits say enough
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004 - the same
