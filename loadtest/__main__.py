"""`python -m loadtest run SCENARIO`: put load on a gateway that runs already.

A scenario is a file in `loadtest/scenarios` with `HELP`, `configure(parser)` and
`async run(options) -> int`; a new one is one new file.
"""

import argparse
import asyncio
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Protocol, cast

import loadtest.scenarios


class Scenario(Protocol):
    """What a file in `loadtest/scenarios` has."""

    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""

    async def run(self, options: argparse.Namespace) -> int:
        """Do it, and give the exit code."""


def scenarios() -> dict[str, Scenario]:
    """Find all scenarios."""
    package = loadtest.scenarios
    return {
        found.name: cast("Scenario", importlib.import_module(f"{package.__name__}.{found.name}"))
        for found in pkgutil.iter_modules(package.__path__)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one scenario."""
    parser = argparse.ArgumentParser(
        prog="pushwire loadtest", description="Put load on a gateway and account for each message."
    )
    words = parser.add_subparsers(required=True, metavar="run")
    run = words.add_parser("run", help="run a scenario")
    names = run.add_subparsers(required=True, metavar="SCENARIO")
    for name, scenario in scenarios().items():
        one = names.add_parser(
            name,
            help=scenario.HELP.splitlines()[0],
            description=scenario.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        scenario.configure(one)
        one.set_defaults(scenario=scenario)
    options = parser.parse_args(arguments)
    chosen: Scenario = options.scenario
    return asyncio.run(chosen.run(options))


if __name__ == "__main__":
    sys.exit(main())
