"""`pushwire send`."""

import argparse
from typing import Final

from gateway.cli.api_client import add_api_arguments, api_client
from gateway.cli.arguments import add_common, settings_of, unicode_text
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.settings import Settings
from router.model.message import Priority

NAME: Final = "send"
HELP: Final = """Send a message to a device.

Prints the message's id once it is stored.

    export PUSHWIRE_PROJECT=my-app PUSHWIRE_API_KEY=pw_...
    pushwire send TOKEN --title Hello --body World
    pushwire send TOKEN --data order=17 --data state=ready --ttl 3600
    pushwire send TOKEN --title Score --collapse-key match-4 --priority high
    pushwire send TOKEN --title "Now or never" --ttl 0
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "token", type=unicode_text, help="the device's address, as its registration gave it"
    )
    parser.add_argument("--title", type=unicode_text, help="title of the notification")
    parser.add_argument("--body", type=unicode_text, help="text of the notification")
    parser.add_argument(
        "--data",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=VALUE",
        help="for the app; repeatable",
    )
    parser.add_argument("--ttl", type=float, metavar="SECONDS", help="how long it may wait")
    parser.add_argument(
        "--collapse-key", type=unicode_text, help="takes the place of a pending one with this key"
    )
    parser.add_argument("--priority", choices=[str(priority) for priority in Priority])
    add_api_arguments(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Send it."""
    message = _message(args)
    message_id = run_async(_send(args, settings_of(args), message))
    Terminal().line(message_id)
    return 0


async def _send(args: argparse.Namespace, settings: Settings, message: dict[str, object]) -> str:
    async with api_client(args, settings) as client:
        return await client.send(message)


def _message(args: argparse.Namespace) -> dict[str, object]:
    message: dict[str, object] = {"token": args.token}
    shown = {name: getattr(args, name) for name in ("title", "body") if getattr(args, name)}
    if shown:
        message["notification"] = shown
    if args.data:
        message["data"] = dict(args.data)
    if args.ttl is not None:
        message["ttl"] = f"{args.ttl:.9f}".rstrip("0").rstrip(".") + "s"
    for name in ("collapse_key", "priority"):
        if getattr(args, name):
            message[name] = getattr(args, name)
    return message


def _pair(text: str) -> tuple[str, str]:
    name, found, value = unicode_text(text).partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, not {text!r}")
    return name, value
