"""Charts of a run as one SVG file, for pages that cannot hold HTML. Pure.

The drawing is the page's (`loadtest.report.chart`); title and legend are texts, style is inside.
"""

from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Final

from loadtest.report.chart import HEIGHT, WIDTH, Chart, colour_of, drawing

_HEAD: Final = 44
"""Title and legend above a chart."""
_PART: Final = HEIGHT + _HEAD
_LETTER: Final = 6.4
"""Width of a letter of the legend, about."""
_USED: Final = (":root", "@media", "  --", "svg text", ".y ", ".grid ", ".mark ")


def svg(charts: Sequence[Chart]) -> str:
    """Write charts below each other as an SVG document."""
    parts = "".join(
        f'<g transform="translate(0 {nth * _PART})">{_titled(chart)}</g>'
        for nth, chart in enumerate(charts)
    )
    size = f'width="{WIDTH}" height="{len(charts) * _PART}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {WIDTH} {len(charts) * _PART}" font-family="sans-serif">'
        f"<style>{_style()}</style>"
        f'<rect width="100%" height="100%" fill="var(--card)"/>{parts}</svg>\n'
    )


def _titled(chart: Chart) -> str:
    legend, at = [], 8.0
    for number, line in enumerate(chart.lines):
        legend.append(
            f'<rect x="{at:g}" y="31" width="14" height="3" fill="var(--{colour_of(number)})"/>'
            f'<text x="{at + 19:g}" y="36">{escape(line.name)}</text>'
        )
        at += 34 + _LETTER * len(line.name)
    title = f'<text class="title" x="8" y="18">{escape(chart.title)}</text>'
    return f'{title}{"".join(legend)}<g transform="translate(0 {_HEAD})">{drawing(chart)}</g>'


def _style() -> str:
    """Give what of the page's style the drawing needs."""
    lines = resources.files("loadtest.report").joinpath("style.css").read_text().splitlines()
    own = "svg .title { fill: var(--ink); font-size: 13px; font-weight: 600; }"
    return "\n".join([*(line for line in lines if line.startswith(_USED)), own])
