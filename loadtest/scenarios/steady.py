"""A steady load on a gateway that runs already, with an account of every message."""

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from loadtest import scenario

HELP: Final = """A steady stream to SDK devices, each message accounted for.

Registers devices, sends to them at a steady rate, and checks that each message answered 200 reached
its handler exactly once, in order, and was acked. Kill, stop or upgrade the gateway meanwhile: the
verdict has to hold. Ends with 1, and the ids, where it does not.

    pushwire loadtest run steady --project demo --api-key pw_… --client-key pwc_… --seconds 60
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    for name, variable, default, words in (
        ("--api", "API_URL", "http://127.0.0.1:8080", "URL of the send API"),
        (
            "--devices-url",
            "DEVICE_URL",
            "",
            "URL that devices connect to, if not the one the API names",
        ),
        ("--project", "PROJECT", None, "the project"),
        ("--api-key", "API_KEY", None, "its API key"),
        ("--client-key", "CLIENT_KEY", None, "its client key"),
    ):
        given = os.environ.get(f"PUSHWIRE_{variable}", default)
        parser.add_argument(
            name, default=given, required=given is None, help=f"{words} (or PUSHWIRE_{variable})"
        )
    parser.add_argument("--devices", type=_count, default=50, help="how many (50)")
    parser.add_argument("--rate", type=_positive, default=100.0, help="messages a second (100)")
    parser.add_argument("--seconds", type=_positive, default=10.0, help="how long to send (10)")


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"takes a whole number above 0, not {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"takes a number above 0, not {text!r}")
    return number


async def run(options: argparse.Namespace) -> int:
    """Run it, and print the account."""
    access = scenario.Access(
        api=options.api,
        devices=options.devices_url,
        project=options.project,
        api_key=options.api_key,
        client_key=options.client_key,
    )
    plan = scenario.Plan(
        devices=options.devices, messages=int(options.rate * options.seconds), rate=options.rate
    )
    with tempfile.TemporaryDirectory(prefix="pushwire-loadtest-") as folder:
        outcome = await scenario.run(access, plan, Path(folder))
    sys.stdout.write(outcome.report() + "\n")
    return 0 if outcome.verdict.kept else 1
