"""`pushwire device`."""

import argparse
import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.cli.api_client import api_url
from gateway.cli.arguments import add_common, settings_of
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.settings import variable
from router.model.errors import ErrorCode, PushError
from sdk_client import Device, Message, PushwireError

NAME: Final = "device"
HELP: Final = """Be a device: register one, and listen for its messages.

    pushwire device register --project my-app --client-key pwc_... --state device.json
    pushwire device listen --state device.json
    pushwire device listen --state device.json --count 1 --json

The state file holds the device's secret; `register` makes it, `listen` keeps it. A message is
acknowledged once it is printed. Ctrl-C ends it.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    register = actions.add_parser("register", help="make a device, and print its token")
    register.add_argument(
        "--project", default=variable("project"), help="project id; or PUSHWIRE_PROJECT"
    )
    register.add_argument(
        "--client-key", default=variable("client_key"), help="or PUSHWIRE_CLIENT_KEY"
    )
    register.add_argument("--api-url", default=variable("api_url"), help="or PUSHWIRE_API_URL")
    register.add_argument("--platform", default="python", help="as the app would say it")
    register.add_argument("--user-token", default="", help="proves whose device it is")
    register.add_argument("--json", action="store_true", help="for programs")
    listen = actions.add_parser("listen", help="connect, and print messages")
    listen.add_argument("--count", type=int, default=0, help="end after so many messages")
    listen.add_argument("--json", action="store_true", help="one JSON object a line")
    for action in (register, listen):
        action.add_argument("--state", default="device.json", help="file of the device's state")
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    if args.action == "register":
        return run_async(_register(args))
    if args.count < 0:
        raise PushError(ErrorCode.INVALID_ARGUMENT, "--count takes 0 (no end) or more")
    if not Path(args.state).exists():
        raise PushError(
            ErrorCode.INVALID_ARGUMENT, f"{args.state} does not exist: `pushwire device register`"
        )
    with contextlib.suppress(asyncio.CancelledError):
        run_async(_listen(args))
    return 0


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what the SDK raises into an error of the command line."""
    try:
        yield
    except PushwireError as error:
        raise PushError(ErrorCode.INTERNAL, str(error)) from error
    except ValueError as error:  # a URL that is none
        raise PushError(ErrorCode.INVALID_ARGUMENT, str(error)) from error


async def _register(args: argparse.Namespace) -> int:
    for name in ("project", "client_key"):
        if not getattr(args, name):
            flag = "--" + name.replace("_", "-")
            raise PushError(ErrorCode.INVALID_ARGUMENT, f"{flag} is needed")
    with _explained():
        device = await Device.register(
            api_url(settings_of(args), args.api_url),
            project=args.project,
            client_key=args.client_key,
            platform=args.platform,
            state=args.state,
            user_token=args.user_token,
        )
    found = {"device": device.device_id, "token": device.token, "state": args.state}
    if args.json:
        Terminal().json(found)
    else:
        Terminal().pairs(found)
    return 0


async def _listen(args: argparse.Namespace) -> None:
    terminal = Terminal()
    seen = 0
    with _explained():
        async with Device.load(args.state) as device:
            async for message in device.messages(auto_ack=False):
                _print(terminal, message, as_json=args.json)
                await message.ack()
                seen += 1
                if seen == args.count:
                    break


def _print(terminal: Terminal, message: Message, *, as_json: bool) -> None:
    shown = {"id": message.id, "data": message.data}
    if message.notification is not None:
        shown["notification"] = {
            "title": message.notification.title,
            "body": message.notification.body,
        }
    text = msgspec.json.encode(shown).decode()
    if as_json:
        terminal.line(text)
        return
    title = message.notification.title if message.notification else ""
    terminal.line(f"{message.id}  {title}  {message.data or ''}".rstrip())
