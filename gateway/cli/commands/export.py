"""`pushwire export`."""

import argparse
from datetime import UTC, datetime
from typing import Final

from gateway.cli.arguments import add_common, settings_of
from gateway.cli.stores import open_store, run_async
from gateway.cli.terminal import Terminal
from gateway.process import Clock
from gateway.settings import Settings
from router.store.exports import Exports, Standing

NAME: Final = "export"
HELP: Final = """Look at how the export of events stands.

    pushwire export status
    pushwire export status --json

Where events go is a setting of the workers, `export_url`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="what waits, the last file, what fails")
    status.add_argument("--json", action="store_true", help="for programs")
    add_common(status)


def run(args: argparse.Namespace) -> int:
    """Tell how it stands."""
    standing = run_async(_standing(settings_of(args)))
    if args.json:
        Terminal().json(standing)
    else:
        Terminal().pairs(_shown(standing, Clock().now_ms()))
    return 0


async def _standing(settings: Settings) -> Standing:
    async with open_store(settings, "export status") as store:
        return await Exports(store).standing()


def _shown(standing: Standing, now_ms: int) -> dict[str, str]:
    shown = {"export": f"on, {standing.partitions} partitions" if standing.partitions else "off"}
    if standing.partitions:
        shown["waiting"] = f"{standing.waiting} entries of the outboxes"
        if standing.oldest_ms:
            shown["waiting"] += f", the oldest for {(now_ms - standing.oldest_ms) / 1000:.0f} s"
    if (file := standing.file) is not None:
        shown["last file"] = file.name
        shown["kept at"] = f"{_time(file.time_ms)}, {file.events} events in {file.bytes} bytes"
    if (failure := standing.failure) is not None:
        shown["failing"] = f"since {_time(failure.time_ms)}: {failure.reason}"
    return shown


def _time(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
