"""`make bench`: measure a real gateway on this machine, and hold it against the targets.

`python -m loadtest.bench [--quick] [--json FILE] [case …]`; `topics` are the cases of
`make bench-topics`.
"""

import argparse
import datetime as dt
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from loadtest import cases, offline, topics
from loadtest.bridge_hang import bridge_hang
from loadtest.bridges import bridges
from loadtest.callbacks import callbacks
from loadtest.cases import QUICK, Scale
from loadtest.export import export
from loadtest.lanes import lanes
from loadtest.machine import machine, versions
from loadtest.overload.cases import overload, overload_batch, overload_connects
from loadtest.recorder import Figure, table

CASES: Final = {
    **cases.CASES,
    "callbacks": callbacks,
    "export": export,
    "lanes": lanes,
    "bridges": bridges,
}
TOPIC_CASES: Final = {
    "publish-ratio": offline.publish_ratio,
    "subscription-memory": offline.subscription_memory,
    "topic-delivery": topics.topic_delivery,
    "topic-burst": topics.topic_burst,
    "fan-out": topics.fan_outs,
    "attach-topics": topics.attaches,
}
OVERLOAD_CASES: Final = {
    "overload": overload,
    "overload-batch": overload_batch,
    "overload-connects": overload_connects,
}
LONG_CASES: Final = {"bridge-hang": bridge_hang}
"""By name alone: they take minutes."""
_ALL: Final = {**CASES, **TOPIC_CASES, **OVERLOAD_CASES, **LONG_CASES}


class Record(msgspec.Struct):
    """What `--json` writes: the figures, and on what they were measured."""

    date: str
    machine: str
    versions: dict[str, str]
    scale: Scale
    figures: list[Figure]
    medians: dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases asked for (all of them by default); 1 where a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(_ALL)}, or topics")
    parser.add_argument("--quick", action="store_true", help="one small run of each: no figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    names = _named(options.cases)
    if unknown := set(names) - set(_ALL):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(_ALL)}")
    scale = QUICK if options.quick else Scale()
    figures = uvloop.run(_measure(names, scale))
    sys.stdout.write(f"{_heading(scale)}\n{table(figures)}\n")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(_record(scale, figures))))
    return 0 if options.quick or all(figure.reached for figure in figures) else 1


async def _measure(names: Sequence[str], scale: Scale) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        _say(f"{name}: {(_ALL[name].__doc__ or '').splitlines()[0]}")
        figures += await _ALL[name](scale, lambda text: _say(f"  {text}"))
    return figures


def _named(cases: Sequence[str]) -> list[str]:
    """Spell out which cases are asked for."""
    named = [list(TOPIC_CASES) if case == "topics" else [case] for case in cases]
    return [case for group in named for case in group] or list(CASES)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _record(scale: Scale, figures: list[Figure]) -> Record:
    return Record(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=machine(),
        versions=versions(),
        scale=scale,
        figures=figures,
        medians={figure.name: figure.median for figure in figures},
    )


def _heading(scale: Scale) -> str:
    record = _record(scale, [])
    parts = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    return f"{record.date}, {record.machine}\n{parts}\nmedian of {scale.runs} runs\n"


if __name__ == "__main__":
    sys.exit(main())
