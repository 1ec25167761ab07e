"""`pushwire api`."""

import argparse
from typing import Final

from gateway.api.app import run as run_api
from gateway.cli.roles import configure_role, start_role

NAME: Final = "api"
HELP: Final = """Run one API process alone (`serve` runs all roles).

App servers send and register through it, over HTTP.

    pushwire api --store-url redis://store:6379 --api-port 8080 --host 0.0.0.0

Several on one machine may share the port. It stops on SIGTERM, after the requests under way.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    configure_role(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    return start_role(NAME, run_api, args)
