"""`pushwire loadtest`."""

import argparse
import os
import sys
from typing import Final

NAME: Final = "loadtest"
HELP: Final = """Put load on a gateway and check every message to the last id.

All words after `loadtest` go to the load generator, a program of its own:

    pushwire loadtest list                       the scenarios
    pushwire loadtest run steady --seconds 60    on a gateway of its own
    pushwire loadtest run --help                 on one that runs already, and all else
    pushwire loadtest compare A.json B.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("words", nargs=argparse.REMAINDER, help="for `python -m loadtest`")
    parser.prefix_chars = "\0"  # no flag is ours
    parser.add_help = False


def run(args: argparse.Namespace) -> int:
    """Become the load generator."""
    words = [sys.executable, "-m", "loadtest", *args.words]
    sys.stdout.flush()
    os.execv(sys.executable, words)  # noqa: S606 - our own program, without a shell
