"""Line charts as SVG. Pure.

Colours come from the page's style (`--c1` … `--c8`), so that a chart follows its light and dark
modes; values for the pointer stand in data attributes, which the page's script reads.
"""

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

WIDTH: Final = 720
HEIGHT: Final = 240
_LEFT: Final = 52
_RIGHT: Final = 14
_TOP: Final = 22
_BOTTOM: Final = 26
_COLOURS: Final = 8
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


class Line(msgspec.Struct, frozen=True):
    """One series: a value for each x, None where there is none."""

    name: str
    values: Sequence[float | None]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart.

    `marks` are (x, text) of what happened; each gets a numbered line.
    """

    title: str
    unit: str
    xs: Sequence[float]
    lines: Sequence[Line]
    log: bool = False
    marks: Sequence[tuple[float, str]] = ()
    x_labels: Sequence[tuple[float, str]] = ()
    """Ticks of the x axis; times where there are none."""
    note: str = ""


class _Scale:
    """From values to pixels, along one axis."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool) -> None:
        self._log = log
        self._low = self._of(low)
        self._span = (self._of(high) - self._low) or 1.0
        self._start = start
        self._length = end - start

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self._log else value

    def __call__(self, value: float) -> float:
        return round(self._start + (self._of(value) - self._low) / self._span * self._length, 1)


def colour_of(number: int) -> str:
    """Name the style's colour of a line."""
    return f"c{number % _COLOURS + 1}"


def drawing(chart: Chart) -> str:
    """Write what is inside a chart's SVG; empty where there is nothing to draw."""
    values = _values(chart)
    if not values:
        return ""
    ticks = log_ticks(values) if chart.log else linear_ticks(max(values))
    x = _x_scale(chart)
    y = _Scale(ticks[0], ticks[-1], HEIGHT - _BOTTOM, _TOP, log=chart.log)
    parts = [_grid(ticks, y, chart.unit), _x_axis(chart, x)]
    parts += [_mark(number, at, text, x) for number, (at, text) in enumerate(chart.marks, 1)]
    parts += [
        _path(line, chart.xs, x, y, colour_of(number), chart.log)
        for number, line in enumerate(chart.lines)
    ]
    return "".join(parts)


def draw(chart: Chart) -> str:
    """Write a chart as an HTML figure."""
    inside = drawing(chart)
    if not inside:
        return ""
    x = _x_scale(chart)
    legend = "".join(
        f'<li><i style="background:var(--{colour_of(number)})"></i>{escape(line.name)}</li>'
        for number, line in enumerate(chart.lines)
    )
    note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
    data = {
        "xs": [x(at) for at in chart.xs],
        "labels": [_x_text(chart, at) for at in chart.xs],
        "lines": [
            {"name": line.name, "values": [_shown(value) for value in line.values]}
            for line in chart.lines
        ],
        "unit": chart.unit,
    }
    return (
        f'<figure data-chart="{escape(json.dumps(data, separators=(",", ":")))}">'
        f"<figcaption>{escape(chart.title)}</figcaption>"
        f'<ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f'{inside}<line class="cross" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/></svg>'
        f'<div class="tip" hidden></div>{note}</figure>'
    )


def _values(chart: Chart) -> list[float]:
    found = [value for line in chart.lines for value in line.values if value is not None]
    return found if chart.xs else []


def _x_scale(chart: Chart) -> _Scale:
    return _Scale(chart.xs[0], chart.xs[-1], _LEFT, WIDTH - _RIGHT, log=False)


def linear_ticks(highest: float) -> list[float]:
    """Give three to six round numbers from 0 to at least the highest value."""
    if highest <= 0:
        return [0.0, 1.0]
    step = 10.0 ** math.floor(math.log10(highest / 4))
    for factor in (1, 2, 2.5, 5, 10):
        if highest / (step * factor) <= 5:  # noqa: PLR2004 - at most six ticks
            step *= factor
            break
    count = math.ceil(highest / step - 1e-9)
    return [round(step * number, 10) for number in range(count + 1)]


def log_ticks(values: Sequence[float]) -> list[float]:
    """Give 1, 2 and 5 of each power of ten around the values; only powers where they are many."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    powers = [10.0**power for power in range(low, high + 1)]
    if len(powers) > 3:  # noqa: PLR2004 - enough lines without those between
        return powers
    between = [power * factor for power in powers[:-1] for factor in (1, 2, 5)]
    return [*between, powers[-1]]


def number(value: float) -> str:
    """Write a number as an axis and a tip show it."""
    if value >= 1e6:  # noqa: PLR2004 - millions
        return f"{value / 1e6:g}M"
    if value >= 1e4:  # noqa: PLR2004 - thousands
        return f"{value / 1e3:g}k"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - three digits say enough


def clock(seconds: float) -> str:
    """Write a time as an axis shows it: 12 s, 3:05, 1:02:03."""
    if seconds < _MINUTE_S:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, _MINUTE_S)
    if whole < _HOUR_S:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _shown(value: float | None) -> float | None:
    """Round a value to what the tip shows."""
    return None if value is None else float(f"{value:.4g}")


def _grid(ticks: Sequence[float], y: _Scale, unit: str) -> str:
    lines = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>'
        f'<text class="y" x="{_LEFT - 6}" y="{y(tick) + 4}">{number(tick)}</text>'
        for tick in ticks
    )
    return f'{lines}<text class="unit" x="{_LEFT}" y="12">{escape(unit)}</text>'


def _x_axis(chart: Chart, x: _Scale) -> str:
    labels = chart.x_labels or [(at, clock(at)) for at in _times(chart.xs[0], chart.xs[-1])]
    return "".join(
        f'<text class="x" x="{x(at)}" y="{HEIGHT - 8}">{escape(label)}</text>'
        for at, label in labels
    )


def _times(first: float, last: float) -> list[float]:
    """Give about six round times within a span."""
    span = max(last - first, 1.0)
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
    step = next((step for step in steps if span / step <= 7), steps[-1])  # noqa: PLR2004 - that many fit
    begin = math.ceil(first / step)
    return [float(step * at) for at in range(begin, int(last // step) + 1)]


def _x_text(chart: Chart, at: float) -> str:
    if not chart.x_labels:
        return clock(at)
    return f"p{percent(at):.6g}"


def percent(position: float) -> float:
    """Give the percentile at a place of the axis on which each step has a tenth of the rest."""
    return 100 * (1 - 10**-position)


def _mark(nth: int, at: float, text: str, x: _Scale) -> str:
    place = x(at)
    return (
        f'<g class="mark"><title>{escape(text)}</title>'
        f'<line x1="{place}" x2="{place}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        f'<text x="{place}" y="{_TOP - 5}">{nth}</text></g>'
    )


def _path(
    line: Line,
    xs: Sequence[float],
    x: _Scale,
    y: _Scale,
    colour: str,
    log: bool,  # noqa: FBT001
) -> str:
    """Draw a line, broken where there is no value, and on a logarithmic scale where it is 0."""
    steps: list[str] = []
    pen = "M"
    for at, value in zip(xs, line.values, strict=True):
        if value is None or (log and value <= 0):
            pen = "M"
            continue
        steps.append(f"{pen}{x(at):g} {y(value):g}")
        pen = "L"
    return f'<path class="line" style="stroke:var(--{colour})" d="{"".join(steps)}"/>'
