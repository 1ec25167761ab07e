"""A run on a terminal: rates, latencies, connections, processes, as they change."""

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.run.spec import Spec
from loadtest.run.tally import Tally

_BARS: Final = "▁▂▃▄▅▆▇█"
_SPAN: Final = 40
"""Points of a sparkline."""
_EVENTS: Final = 6


class LiveScreen:
    """Draws a run anew each period.

    Args:
        scenario: its name.
        spec: what it does.
        console: where to draw.
    """

    def __init__(self, scenario: str, spec: Spec, console: Console) -> None:
        self._scenario = scenario
        self._spec = spec
        self._phase = "starting"
        self._tally: Tally | None = None
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._live = Live(self._drawn(), console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def phase(self, name: str) -> None:
        """The run is at this now."""
        self._phase = name
        self._draw()

    def show(self, tally: Tally) -> None:
        """A period is over."""
        self._tally = tally
        self._draw()

    def say(self, text: str) -> None:
        """Something happened."""
        at = f"{self._tally.points[-1].t:6.1f} s  " if self._tally and self._tally.points else ""
        self._events.append(f"{at}{text}")
        self._draw()

    def _draw(self) -> None:
        self._live.update(self._drawn(), refresh=True)

    def _drawn(self) -> RenderableType:
        tally, spec = self._tally, self._spec
        passed = tally.points[-1].t if tally and tally.points else 0.0
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        head.add_row(
            Text.assemble((self._scenario, "bold"), "  ", (self._phase, "cyan")),
            f"{passed:.0f} of {float(spec.duration):.0f} s",
        )
        parts: list[RenderableType] = [
            head,
            ProgressBar(total=float(spec.duration), completed=min(passed, float(spec.duration))),
        ]
        if tally and tally.points:
            body = Table.grid(expand=True, padding=(0, 4, 0, 0))
            body.add_row(figures(tally, spec), processes(tally))
            parts.append(body)
        if self._events:
            parts.append(Text("\n".join(self._events), style="dim", overflow="ellipsis"))
        return Panel(Group(*parts), title="pushwire loadtest", border_style="dim")


def figures(tally: Tally, spec: Spec) -> Table:
    """Draw what the last period was like, with the periods before it as a line."""
    last, period_s = tally.points[-1], tally.period_s
    recent = tally.points[-_SPAN:]
    waiting = max(0, tally.expected - tally.delivered)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    rows: tuple[tuple[str, str, Sequence[float]], ...] = (
        ("connected", f"{last.connected} of {spec.devices}", [p.connected for p in recent]),
        ("accepted/s", f"{last.accepted / period_s:.0f}", [p.accepted for p in recent]),
        ("delivered/s", f"{last.delivered / period_s:.0f}", [p.delivered for p in recent]),
        ("p50", f"{last.p50:.1f} ms", [p.p50 for p in recent]),
        ("p99", f"{last.p99:.1f} ms", [p.p99 for p in recent]),
        ("max", f"{last.max:.1f} ms", [p.max for p in recent]),
        ("p99 of all", f"{tally.histograms['delivery'].quantile_ms(0.99):.1f} ms", []),
        ("on their way", str(waiting), []),
        ("due, no answer", str(last.backlog), [p.backlog for p in recent]),
    )
    for name, value, values in rows:
        table.add_row(name, value, Text(sparkline(values), style="blue"))
    bad = tally.failed
    table.add_row("errors", Text(str(bad), style="red" if bad else ""), codes(tally))
    return table


def processes(tally: Tally) -> RenderableType:
    """Draw what each process of the gateway uses."""
    last = tally.points[-1]
    if not last.cpu:
        return Text("")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    heads = ("CPU", "memory", "open")
    for _ in heads:
        table.add_column(justify="right")
    table.add_row("process", *(Text(head, style="dim") for head in heads))
    for name in sorted(last.cpu):
        table.add_row(
            name,
            f"{last.cpu[name]:.0f} %",
            f"{last.memory.get(name, 0):.0f} MiB",
            str(last.descriptors.get(name, "")),
        )
    return table


def codes(tally: Tally) -> str:
    """Say which errors there were, the most frequent first."""
    return ", ".join(f"{count} x {code}" for code, count in tally.errors.most_common(3))


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a line of blocks, the highest of them a full one."""
    highest = max(values, default=0.0)
    if highest <= 0:
        return ""
    top = len(_BARS) - 1
    return "".join(_BARS[round(value / highest * top)] for value in values)
