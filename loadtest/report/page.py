"""A run as one HTML page: style, script and charts are in it, so that it opens anywhere."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Final

import msgspec

from loadtest.report.chart import Chart, Line, draw, number, percent
from loadtest.run.result import Latency, Point, Result
from loadtest.run.spec import encode_hook
from loadtest.run.trends import role_of

_CURVE_STEPS: Final = 120
RECONNECTS: Final = "Connections made"
HANDSHAKES: Final = "Handshakes over time"
CPU: Final = "CPU of the gateway's processes"
_LINES: Final = 16
"""So many processes have lines of their own."""
_BACKLOG: Final = 10
"""So many messages wait for their answers at any moment of a good run."""
_NAMES: Final = {
    "delivery": "delivery: due until at the device",
    "resumed": "resumed: return of the device until at the device",
    "answer": "answer: due until answered 200",
    "lag": "lag of the load generator: due until its request was written",
    "handshake": "handshake: connection due until welcome",
    "roll call": "roll call: due until at the device",
}


def page(result: Result) -> str:
    """Write the report of a run."""
    good = result.kept
    verdict = "every promise kept" if good else "a promise was broken"
    badge = "kept" if good else "broken"
    title = f"{result.scenario} · Pushwire load test"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_file('style.css')}</style></head><body><main>"
        f"<header><h1>{escape(result.scenario)}</h1>"
        f'<span class="badge {badge}">{"✓" if good else "✗"} {verdict}</span>'
        f'<span class="soft">{escape(result.started)}, {escape(result.machine)}, gateway '
        f"{escape(result.gateway)}</span></header>"
        f'<p class="about">{escape(result.spec.about)}</p>'
        f"{_tiles(result)}"
        f"{_broken(result)}"
        f'<div class="charts">{"".join(draw(chart) for chart in charts(result))}</div>'
        f"{_events(result)}{_tables(result)}"
        f"</main><script>{_file('script.js')}</script></body></html>\n"
    )


def charts(result: Result) -> list[Chart]:
    """Give the charts of a run."""
    points, period = result.points, result.period
    xs = [point.t for point in points]
    marks = [(mark.t, mark.text) for mark in result.marks if mark.fault]

    def over_time(title: str, unit: str, lines: Sequence[Line], *, log: bool = False) -> Chart:
        return Chart(title=title, unit=unit, xs=xs, lines=lines, log=log, marks=marks)

    found = [
        over_time(
            "Latency of deliveries over time",
            "ms",
            [
                Line("max", [point.max or None for point in points]),
                Line("p99", [point.p99 or None for point in points]),
                Line("p50", [point.p50 or None for point in points]),
            ],
            log=True,
        ),
        curve(result.latencies),
        over_time(
            "Throughput",
            "a second",
            [
                Line("delivered", [point.delivered / period for point in points]),
                Line("accepted", [point.accepted / period for point in points]),
                Line("due", [point.due / period for point in points]),
            ],
        ),
        over_time(
            "Connections", "devices", [Line("connected", [point.connected for point in points])]
        ),
        over_time(
            RECONNECTS,
            "a second",
            [
                Line("connected", [point.connects / period for point in points]),
                Line("told to wait, or failed", [point.refused / period for point in points]),
            ],
        ),
        over_time(
            HANDSHAKES,
            "ms",
            [
                Line("p99", [point.handshake_p99 or None for point in points]),
                Line("p50", [point.handshake_p50 or None for point in points]),
            ],
            log=True,
        ),
        *over_processes(points, over_time),
    ]
    if any(point.errors or point.backlog >= _BACKLOG for point in points):
        lines = [
            Line("errors a second", [point.errors / period for point in points]),
            Line("due and unanswered", [point.backlog for point in points]),
        ]
        found.append(over_time("Errors and backlog of the app servers", "messages", lines))
    return found


def over_processes(
    points: Sequence[Point], of: Callable[[str, str, list[Line]], Chart]
) -> list[Chart]:
    """Give the charts of what each process of the gateway takes."""
    return [
        of(CPU, "% of a core", of_processes([point.cpu for point in points])),
        of(
            "Memory of the gateway's processes",
            "MiB resident",
            of_processes([point.memory for point in points]),
        ),
        of(
            "Memory with shared pages split among their sharers",
            "MiB PSS",
            of_processes([point.pss for point in points]),
        ),
        of(
            "Open descriptors of the gateway's processes",
            "descriptors",
            of_processes([point.descriptors for point in points]),
        ),
    ]


def of_processes(values: Sequence[Mapping[str, float]]) -> list[Line]:
    """Give a line for each process; for each role, all of it together, where they are many."""
    names = sorted({name for one in values for name in one})
    if len(names) <= _LINES:
        return [Line(name, [one.get(name) for one in values]) for name in names]
    roles: dict[str, list[str]] = {}
    for name in names:
        roles.setdefault(role_of(name), []).append(name)
    return [
        Line(
            f"{role} ({len(group)})" if len(group) > 1 else role,
            [sum(one.get(name, 0) for name in group) if one else None for one in values],
        )
        for role, group in roles.items()
    ]


def curve(latencies: Mapping[str, Latency]) -> Chart:
    """Give latencies by percentile, on an axis on which each step has a tenth of the rest."""
    kinds = {name: one for name, one in latencies.items() if name != "lag"}
    most = max((one.count for one in kinds.values()), default=1)
    decades = max(2, min(6, len(str(most)) - 1))
    xs = [decades * step / _CURVE_STEPS for step in range(1, _CURVE_STEPS + 1)]
    lines = []
    for name, one in kinds.items():
        histogram = one.decoded()
        within = (x if 10**x <= one.count else None for x in xs)
        lines.append(
            Line(
                name,
                [None if x is None else histogram.quantile_ms(percent(x) / 100) for x in within],
            )
        )
    labels = [(float(step), f"{percent(step):.6g} %") for step in range(1, decades + 1)]
    return Chart(
        title="Latency by percentile",
        unit="ms",
        xs=xs,
        lines=lines,
        log=True,
        x_labels=labels,
        note="Each from the time when it was due, however late the generator was.",
    )


def _tiles(result: Result) -> str:
    verdict, delivery = result.verdict, result.latencies.get("delivery")
    tiles = [
        ("accepted", number(verdict.accepted), "messages"),
        ("delivered", number(verdict.delivered), f"of {number(verdict.expected)}"),
        (
            "connected",
            number(max((point.connected for point in result.points), default=0)),
            "at most",
        ),
        ("errors", number(sum(result.errors.values())), "answers"),
    ]
    if delivery is not None:
        tiles += [
            (f"delivery {name}", number(delivery.quantiles[name]), "ms") for name in ("p50", "p99")
        ]
        tiles.append(("delivery max", number(delivery.max), "ms"))
    for name in ("messages a second", "CPU per delivery, µs", "shard memory per connection, KiB"):
        if name in result.figures:
            short, _, unit = name.partition(", ")
            tiles.append((short, number(result.figures[name]), unit))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(unit)}</small></dd></div>"
        for name, value, unit in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _broken(result: Result) -> str:
    if result.kept:
        return ""
    return f'<h2 class="broken">What was broken</h2><pre>{escape(result.report)}</pre>'


def _events(result: Result) -> str:
    faults = [mark for mark in result.marks if mark.fault]
    others = [mark for mark in result.marks if not mark.fault]
    parts = []
    if faults:
        items = "".join(f"<li>{mark.t:.1f} s: {escape(mark.text)}</li>" for mark in faults)
        parts.append(f"<h2>Faults</h2><ol>{items}</ol>")
    if others:
        items = "".join(f"<li>{mark.t:.1f} s: {escape(mark.text)}</li>" for mark in others)
        parts.append(f"<h2>What happened besides</h2><ul>{items}</ul>")
    return "".join(parts)


def _tables(result: Result) -> str:
    first = next(iter(result.latencies.values()), None)
    quantiles = list(first.quantiles) if first else []
    rows = [
        [_NAMES.get(name, name), str(one.count), f"{one.mean:.2f}"]
        + [f"{one.quantiles[key]:.2f}" for key in quantiles]
        + [f"{one.max:.2f}"]
        for name, one in result.latencies.items()
    ]
    spec = msgspec.json.format(msgspec.json.encode(result.spec, enc_hook=encode_hook), indent=2)
    return (
        f"<h2>The account</h2><pre>{escape(result.report)}</pre>"
        "<h2>Latencies, ms</h2>"
        + _table(["", "count", "mean", *quantiles, "max"], rows)
        + "<h2>Figures</h2>"
        + _pairs(result.figures)
        + _section("CPU seconds while messages were sent", result.cpu)
        + _section("Counted by the gateway meanwhile", result.counters)
        + _section("Answers other than 200", result.errors)
        + _section("Sessions that ended", result.ends)
        + _section("Connections refused", result.refused)
        + _section("Phases, seconds", result.phases)
        + "<h2>Versions</h2>"
        + _table(["", ""], [list(pair) for pair in result.versions.items()])
        + f"<details><summary>The scenario</summary><pre>{escape(spec.decode())}</pre></details>"
    )


def _section(title: str, values: Mapping[str, float]) -> str:
    return f"<h2>{escape(title)}</h2>{_pairs(values)}" if values else ""


def _pairs(values: Mapping[str, float]) -> str:
    return _table(["", ""], [[name, f"{value:,.6g}"] for name, value in values.items()])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    heads = "".join(
        f"<th{' class=n' if column else ''}>{escape(cell)}</th>" for column, cell in enumerate(head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=n' if column else ''}>{escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{heads}</tr>{body}</table></div>'


def _file(name: str) -> str:
    return resources.files("loadtest.report").joinpath(name).read_text()
