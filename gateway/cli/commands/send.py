"""`pushwire send`."""

import argparse
from typing import Final

from gateway.cli.api_client import add_api_arguments, api_client
from gateway.cli.arguments import add_common, settings_of, unicode_text
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.settings import Settings
from router.model.errors import ErrorCode, PushError
from router.model.message import Priority

NAME: Final = "send"
HELP: Final = """Send a message to a device, a topic, a user or a group.

Prints the message's id once it is stored.

    export PUSHWIRE_PROJECT=my-app PUSHWIRE_API_KEY=pw_...
    pushwire send TOKEN --title Hello --body World
    pushwire send TOKEN --data order=17 --data state=ready --ttl 3600
    pushwire send TOKEN --title Score --collapse-key match-4 --priority high
    pushwire send TOKEN --title "Now or never" --ttl 0
    pushwire send --topic news --title Hello
    pushwire send --condition "'a' in topics && 'b' in topics" --title Hello
    pushwire send --user anna --title Hello
    pushwire send --group family --title Hello
"""
_FLAGS: Final = {
    "topic": "to all devices that subscribe to a topic",
    "condition": "to those that subscribe to the topics that a condition asks for",
    "user": "to all devices of a user",
    "group": "to all devices of a group",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "token",
        nargs="?",
        type=unicode_text,
        help="the device's address, as its registration gave it; or one of the next four",
    )
    for name, help_text in _FLAGS.items():
        parser.add_argument(f"--{name}", type=unicode_text, help=help_text)
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
    message: dict[str, object] = _target(args)
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


def _target(args: argparse.Namespace) -> dict[str, object]:
    given = {name: getattr(args, name) for name in ("token", *_FLAGS)}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        names = [name if name == "token" else f"--{name}" for name in given]
        found = f"these are {len(given)}: {', '.join(names)}" if given else "there is none"
        raise PushError(
            ErrorCode.INVALID_ARGUMENT,
            "takes one target, a token or --topic, --condition, --user or --group; " + found,
        )
    return given


def _pair(text: str) -> tuple[str, str]:
    name, found, value = unicode_text(text).partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, not {text!r}")
    return name, value
