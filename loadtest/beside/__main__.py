"""`make bench-peers`: the same work on Pushwire and on other servers, in one run.

`python -m loadtest.beside [--quick] [--devices N] [--json FILE] [peer …]`
"""

import argparse
import datetime as dt
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from rich.console import Console

from loadtest.beside.bench import QUICK, Result, Scale, measure
from loadtest.beside.page import figures_table, guarantees_table
from loadtest.descriptors import allow_descriptors
from loadtest.machine import machine, versions
from loadtest.peers import discover

_WIDTH: Final = 140
"""Columns where the output is no terminal."""
_MOST_DEVICES: Final = 15_000
"""nginx is set up for no more, and one address has not many more ports."""
_INTERRUPTED: Final = 130
"""As shells have it: 128 and the number of SIGINT."""
_SPARE_DESCRIPTORS: Final = 500
"""Of a process, besides one for each device."""


class Record(msgspec.Struct):
    """What `--json` writes: the figures, and on what they were measured."""

    date: str
    machine: str
    versions: dict[str, str]
    scale: Scale
    results: list[Result]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the peers asked for (all of them by default), and print them side by side."""
    peers = discover()
    parser = argparse.ArgumentParser(prog="python -m loadtest.beside", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"of {', '.join(peers)}")
    parser.add_argument("--quick", action="store_true", help="one small round: no figures")
    parser.add_argument("--devices", type=int, metavar="N", help="that connect to each server")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    if unknown := set(options.peers) - set(peers):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(peers)}")
    scale = QUICK if options.quick else Scale()
    if options.devices is not None:
        if not scale.warm_up < options.devices <= _MOST_DEVICES:
            parser.error(f"--devices: takes {scale.warm_up + 1} to {_MOST_DEVICES}")
        scale = msgspec.structs.replace(scale, devices=options.devices)
    if limit := allow_descriptors(scale.devices + _SPARE_DESCRIPTORS):
        most = limit - _SPARE_DESCRIPTORS
        parser.error(f"--devices: at most {most}, as a process may have {limit} descriptors")
    chosen = {name: peer for name, peer in peers.items() if name in (options.peers or peers)}
    try:
        results = uvloop.run(measure(chosen, scale, _say))
    except (ConnectionError, ExceptionGroup) as error:
        if (reasons := _reasons(error)) is None:
            raise
        parser.exit(1, f"not measured: {reasons}\n")
    except KeyboardInterrupt:
        parser.exit(_INTERRUPTED)
    record = Record(
        dt.datetime.now(dt.UTC).date().isoformat(), machine(), versions(), scale, results
    )
    _show(record)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    return 0


def _reasons(error: Exception) -> str | None:
    """Say what went wrong with a server; None where it is a fault of the measurement."""
    if not isinstance(error, ExceptionGroup):
        return str(error) if isinstance(error, ConnectionError) else None
    told = [_reasons(one) for one in error.exceptions]
    return None if None in told else "; ".join(filter(None, told))


def _show(record: Record) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    parts = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    console.print(f"{record.date}, {record.machine}\n{parts}\n")
    console.print(figures_table(record.results))
    console.print(guarantees_table(record.results))
    for result in record.results:
        if result.missing:
            console.print(f"{result.name} was left out: {result.missing}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
