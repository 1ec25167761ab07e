"""`pushwire worker`."""

import argparse
from typing import Final

from gateway.cli.roles import configure_role, start_role
from gateway.worker.app import run as run_worker

NAME: Final = "worker"
HELP: Final = """Run one worker alone (`serve` runs all roles).

Workers do what no request waits for: redelivery, expiry, scheduled sends, receipts. They share the
partitions among themselves; one that dies is replaced within --lease-s seconds.

    pushwire worker --store-url redis://store:6379
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    configure_role(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    return start_role(NAME, run_worker, args)
