"""`pushwire doctor`."""

import argparse
from typing import Final

from gateway.cli.arguments import add_all_settings, settings_of
from gateway.cli.diagnosis import examine
from gateway.cli.finding import Finding
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal

NAME: Final = "doctor"
HELP: Final = """Ask whether this machine is fit to run Pushwire, and what to do where it is not.

Checks descriptors, kernel settings, the store and its persistence, the clock, ports, disk, Python,
and whether the bridges of all projects work.

    pushwire doctor
    pushwire doctor --data-dir ./data --device-port 8081
    pushwire doctor --json

Exit code 1 where a check fails; warnings leave it 0.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="for programs")
    add_all_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Examine the machine."""
    findings = run_async(examine(settings_of(args)))
    if args.json:
        Terminal().json(findings)
    else:
        _show(findings)
    return int(any(finding.good is False for finding in findings))


def _show(findings: list[Finding]) -> None:
    terminal = Terminal()
    for finding in findings:
        terminal.mark(finding.good, f"{finding.name}: {finding.found}")
        if finding.good is not True and finding.advice:
            terminal.line(f"       {finding.advice}")
