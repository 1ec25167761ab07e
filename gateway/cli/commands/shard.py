"""`pushwire shard`."""

import argparse
from typing import Final

from gateway.cli.roles import configure_role, start_role
from gateway.shard.app import run as run_shard

NAME: Final = "shard"
HELP: Final = """Run one connection server alone (`serve` runs all roles).

Devices hold their WebSocket with it. Start as many as the machine has cores; they share the port.

    pushwire shard --store-url redis://store:6379 --device-port 8081 --host 0.0.0.0

On SIGTERM it sends its devices elsewhere over --drain-s seconds, then ends.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    configure_role(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    return start_role(NAME, run_shard, args)
