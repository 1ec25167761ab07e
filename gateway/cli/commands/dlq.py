"""`pushwire dlq`."""

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from gateway.cli.api_client import ApiClient, add_api_arguments, api_client
from gateway.cli.arguments import add_common, settings_of
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.settings import Settings
from router.model.errors import ErrorCode, PushError

NAME: Final = "dlq"
HELP: Final = """Look at callbacks and pushes that were given up, send them again, or drop them.

    pushwire dlq list --project my-app --api-key pw_…
    pushwire dlq show msg_…
    pushwire dlq replay msg_… msg_…
    pushwire dlq replay --all
    pushwire dlq drop --all --webhook wh_…
    pushwire dlq list --webhook br_my-app_apns

What is sent again keeps its id and its content; pushes of a bridge are listed below
`br_<project>_<bridge>`. The project and the key may stand in
PUSHWIRE_PROJECT and PUSHWIRE_API_KEY; the key needs the scope `admin`.
"""

_PAGE: Final = 100


class _Attempt(msgspec.Struct):
    time: str
    error: str
    status: int = 0


class _Letter(msgspec.Struct):
    id: str
    webhook: str
    type: str
    receipts: int
    reason: str
    created_at: str
    died_at: str
    attempts: list[_Attempt]


class _Shown(_Letter):
    body: msgspec.Raw


class _Page(msgspec.Struct):
    dead_letters: list[_Letter]
    next_page: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="show dead letters, the latest first")
    listed.add_argument("--webhook", default="", help="those of one webhook")
    shown = actions.add_parser("show", help="show one with its attempts and its body")
    shown.add_argument("id", help="as `list` gives it")
    replay = actions.add_parser("replay", help="send again")
    drop = actions.add_parser("drop", help="forget")
    for action in (replay, drop):
        action.add_argument("ids", nargs="*", metavar="ID", help="as `list` gives them")
        action.add_argument("--all", action="store_true", help="all that there are now")
        action.add_argument("--webhook", default="", help="with --all: those of one webhook")
    for action in (listed, shown):
        action.add_argument("--json", action="store_true", help="for programs")
    for action in (listed, shown, replay, drop):
        add_api_arguments(action)
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    settings = settings_of(args)
    match args.action:
        case "list":
            _show_list(run_async(_list(args, settings)), as_json=args.json)
        case "show":
            _show_one(run_async(_get(args, settings)), as_json=args.json)
        case "replay":
            done = run_async(_each(args, settings, _replay))
            Terminal().line(f"{done} will be sent again")
        case _:
            done = run_async(_each(args, settings, _drop))
            Terminal().line(f"{done} dropped")
    return 0


async def _pages(client: ApiClient, webhook: str) -> AsyncIterator[_Letter]:
    query = {"limit": str(_PAGE), "webhook": webhook}
    while True:
        answer = await client.call("GET", f"/deadLetters?{urlencode(query)}")
        page = msgspec.json.decode(answer, type=_Page)
        for letter in page.dead_letters:
            yield letter
        if not page.next_page:
            return
        query["page"] = page.next_page


async def _list(args: argparse.Namespace, settings: Settings) -> list[_Letter]:
    async with api_client(args, settings) as client:
        return [letter async for letter in _pages(client, args.webhook)]


async def _get(args: argparse.Namespace, settings: Settings) -> _Shown:
    async with api_client(args, settings) as client:
        answer = await client.call("GET", f"/deadLetters/{quote(args.id, safe='')}")
        return msgspec.json.decode(answer, type=_Shown)


async def _replay(client: ApiClient, identifier: str) -> None:
    await client.call("POST", f"/deadLetters/{quote(identifier, safe='')}:replay")


async def _drop(client: ApiClient, identifier: str) -> None:
    await client.call("DELETE", f"/deadLetters/{quote(identifier, safe='')}")


async def _each(
    args: argparse.Namespace,
    settings: Settings,
    step: Callable[[ApiClient, str], Awaitable[None]],
) -> int:
    """Do one thing with each that is named, oldest first with --all, and tell how many."""
    if bool(args.ids) == args.all:
        raise PushError(ErrorCode.INVALID_ARGUMENT, "name ids, or --all")
    async with api_client(args, settings) as client:
        identifiers: list[str] = args.ids
        if args.all:
            identifiers = [letter.id async for letter in _pages(client, args.webhook)][::-1]
        for identifier in identifiers:
            await step(client, identifier)
    return len(identifiers)


def _show_list(letters: list[_Letter], *, as_json: bool) -> None:
    if as_json:
        Terminal().json(letters)
        return
    rows = [
        (
            letter.id,
            letter.webhook,
            letter.type,
            str(letter.receipts),
            letter.reason,
            letter.died_at[:19],
            letter.attempts[-1].error if letter.attempts else "",
        )
        for letter in letters
    ]
    Terminal().table(("id", "webhook", "type", "receipts", "reason", "died", "last error"), rows)


def _show_one(letter: _Shown, *, as_json: bool) -> None:
    terminal = Terminal()
    if as_json:
        terminal.json(letter)
        return
    terminal.pairs(
        {
            "id": letter.id,
            "webhook": letter.webhook,
            "type": letter.type,
            "reason": letter.reason,
            "created": letter.created_at,
            "died": letter.died_at,
        }
    )
    for number, attempt in enumerate(letter.attempts, 1):
        terminal.line(f"attempt {number}: {attempt.time}  {attempt.error}")
    terminal.line(bytes(letter.body).decode())
