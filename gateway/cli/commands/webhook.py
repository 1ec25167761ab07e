"""`pushwire webhook`."""

import argparse
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.cli.api_client import add_api_arguments, api_client
from gateway.cli.arguments import add_common, settings_of, unicode_text
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.settings import Settings
from router.model.webhook import Kind

NAME: Final = "webhook"
HELP: Final = """Say where callbacks go: receipts, messages from devices, ended registrations.

    export PUSHWIRE_PROJECT=my-app PUSHWIRE_API_KEY=pw_...
    pushwire webhook add https://example.com/push
    pushwire webhook add https://example.com/push --event message.receipts
    pushwire webhook list
    pushwire webhook remove wh_...

The secret that `add` prints signs the callbacks; it is shown this once. The key needs the scope
`admin`.
"""


class _Health(msgspec.Struct):
    state: str
    last_error: str = ""


class _Webhook(msgspec.Struct, omit_defaults=True):
    id: str
    url: str
    events: list[str]
    created_at: str
    health: _Health
    secret: str = ""


class _Webhooks(msgspec.Struct):
    webhooks: list[_Webhook]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="have callbacks sent to a URL")
    add.add_argument("url", type=unicode_text, help="http or https URL of your endpoint")
    add.add_argument(
        "--event",
        action="append",
        choices=[kind.value for kind in Kind],
        help="what it wants to hear of; repeatable, all by default",
    )
    add.add_argument("--secret", type=unicode_text, help="whsec_...; a new one by default")
    listed = actions.add_parser("list", help="show the webhooks with their health")
    remove = actions.add_parser("remove", help="delete one, with what waits for it")
    remove.add_argument("id", type=unicode_text, help="as `list` gives it")
    for action in (add, listed):
        action.add_argument("--json", action="store_true", help="for programs")
    for action in (add, listed, remove):
        add_api_arguments(action)
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    settings, terminal = settings_of(args), Terminal()
    match args.action:
        case "add":
            made = run_async(_add(args, settings))
            if args.json:
                terminal.json(made)
            else:
                terminal.pairs({"id": made.id, "url": made.url, "secret": made.secret})
        case "list":
            found = run_async(_list(args, settings))
            if args.json:
                terminal.json(found)
            else:
                _show(found)
        case _:
            run_async(_remove(args, settings))
            terminal.line(f"{args.id} is removed")
    return 0


async def _add(args: argparse.Namespace, settings: Settings) -> _Webhook:
    body: dict[str, object] = {"url": args.url}
    if args.event:
        body["events"] = args.event
    if args.secret:
        body["secret"] = args.secret
    async with api_client(args, settings) as client:
        return msgspec.json.decode(await client.call("POST", "/webhooks", body), type=_Webhook)


async def _list(args: argparse.Namespace, settings: Settings) -> list[_Webhook]:
    async with api_client(args, settings) as client:
        return msgspec.json.decode(await client.call("GET", "/webhooks"), type=_Webhooks).webhooks


async def _remove(args: argparse.Namespace, settings: Settings) -> None:
    async with api_client(args, settings) as client:
        await client.call("DELETE", f"/webhooks/{quote(args.id, safe='')}")


def _show(webhooks: list[_Webhook]) -> None:
    rows = [
        (one.id, one.url, ",".join(one.events), one.health.state, one.health.last_error)
        for one in webhooks
    ]
    Terminal().table(("id", "url", "events", "health", "last error"), rows)
