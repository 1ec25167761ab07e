"""`pushwire group`."""

import argparse
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from gateway.cli.api_client import ApiClient, add_api_arguments, api_client
from gateway.cli.arguments import add_common, settings_of, unicode_text
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.settings import Settings
from router.model.errors import ErrorCode, PushError

NAME: Final = "group"
HELP: Final = """Keep groups of devices, to send to all of them.

    export PUSHWIRE_PROJECT=my-app PUSHWIRE_API_KEY=pw_...
    pushwire group create family TOKEN TOKEN
    pushwire group add family TOKEN
    pushwire group remove family TOKEN
    pushwire group show family
    pushwire group list
    pushwire group delete family
    pushwire send --group family --title Hello

Exits with 1 where a token was refused; the others are done all the same.
"""
_CHANGES: Final = {
    "create": "make a group, of these devices",
    "add": "put devices into a group",
    "remove": "take devices out of a group",
}


class _Error(msgspec.Struct):
    message: str = ""


class _Result(msgspec.Struct):
    error: _Error | None = None


class _Results(msgspec.Struct):
    results: list[_Result]


class _Group(msgspec.Struct):
    group: str
    devices: list[str]


class _Entry(msgspec.Struct):
    group: str
    devices: int


class _Page(msgspec.Struct):
    groups: list[_Entry]
    next_page: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    added = []
    for name, help_text in _CHANGES.items():
        action = actions.add_parser(name, help=help_text)
        action.add_argument("group", type=unicode_text, help="its name")
        action.add_argument(
            "tokens", nargs="*" if name == "create" else "+", type=unicode_text, metavar="TOKEN"
        )
        added.append(action)
    show = actions.add_parser("show", help="show the devices of a group")
    delete = actions.add_parser("delete", help="delete a group; its devices stay registered")
    for action in (show, delete):
        action.add_argument("group", type=unicode_text, help="its name")
    listed = actions.add_parser("list", help="show all groups")
    for action in (show, listed):
        action.add_argument("--json", action="store_true", help="for programs")
    for action in (*added, show, delete, listed):
        add_api_arguments(action)
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    settings, terminal = settings_of(args), Terminal()
    match args.action:
        case "show":
            group = run_async(_show(args, settings))
            if args.json:
                terminal.json(group)
            else:
                for device in group.devices:
                    terminal.line(device)
        case "list":
            groups = run_async(_list(args, settings))
            if args.json:
                terminal.json(groups)
            else:
                rows = [(one.group, str(one.devices)) for one in groups]
                terminal.table(("group", "devices"), rows)
        case "delete":
            run_async(_delete(args, settings))
            terminal.line(f"{args.group} is deleted")
        case _:
            done = run_async(_change(args, settings))
            terminal.line(f"{args.group}: {args.action} {done}")
    return 0


def _path(args: argparse.Namespace) -> str:
    return f"/groups/{quote(args.group, safe='')}"


async def _show(args: argparse.Namespace, settings: Settings) -> _Group:
    async with api_client(args, settings) as client:
        return msgspec.json.decode(await client.call("GET", _path(args)), type=_Group)


async def _list(args: argparse.Namespace, settings: Settings) -> list[_Entry]:
    async with api_client(args, settings) as client:
        found: list[_Entry] = []
        query = {"limit": "100"}
        while True:
            page = await _page(client, query)
            found += page.groups
            if not page.next_page:
                return found
            query["page"] = page.next_page


async def _page(client: ApiClient, query: dict[str, str]) -> _Page:
    return msgspec.json.decode(await client.call("GET", f"/groups?{urlencode(query)}"), type=_Page)


async def _delete(args: argparse.Namespace, settings: Settings) -> None:
    async with api_client(args, settings) as client:
        await client.call("DELETE", _path(args))


async def _change(args: argparse.Namespace, settings: Settings) -> int:
    """Make the change, and tell how many tokens it was done for.

    Raises:
        PushError: some were refused; the text names each.
    """
    body: dict[str, object] = {"tokens": args.tokens}
    path = f"{_path(args)}:{args.action}"
    if args.action == "create":
        path, body = "/groups", {"group": args.group, **body}
    async with api_client(args, settings) as client:
        answer = await client.call("POST", path, body)
    results = msgspec.json.decode(answer, type=_Results).results
    refused = [
        f"{token}: {result.error.message}"
        for token, result in zip(args.tokens, results, strict=True)
        if result.error is not None
    ]
    if refused:
        raise PushError(ErrorCode.INVALID_ARGUMENT, "; ".join(refused))
    return len(results)
