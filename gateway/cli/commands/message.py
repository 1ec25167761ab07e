"""`pushwire message`."""

import argparse
from typing import Final

from gateway.cli.api_client import Status, add_api_arguments, api_client
from gateway.cli.arguments import add_common, settings_of
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.settings import Settings

NAME: Final = "message"
HELP: Final = """Show what became of a message.

    export PUSHWIRE_PROJECT=my-app PUSHWIRE_API_KEY=pw_...
    pushwire message show ID
    pushwire message show ID --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="its state and its timeline")
    show.add_argument("id", help="as `send` printed it")
    show.add_argument("--json", action="store_true", help="as the API answers")
    add_api_arguments(show)
    add_common(show)


def run(args: argparse.Namespace) -> int:
    """Show it."""
    status, raw = run_async(_status(args, settings_of(args)))
    terminal = Terminal()
    if args.json:
        terminal.json(raw)
        return 0
    terminal.pairs(
        {
            "message": args.id,
            "state": status.state,
            "accepted": status.created_at,
            "expires": status.expires_at,
        }
    )
    terminal.line()
    rows = [(entry.time, entry.type, entry.device_id, entry.detail) for entry in status.timeline]
    terminal.table(("time", "event", "device", "detail"), rows)
    return 0


async def _status(args: argparse.Namespace, settings: Settings) -> tuple[Status, object]:
    async with api_client(args, settings) as client:
        return await client.status(args.id)
