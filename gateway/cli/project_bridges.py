"""`pushwire project bridge`: what each bridge takes comes from its own module."""

import argparse
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry

from gateway.api.accounts import accounts_of
from gateway.api.projects_service import ProjectsService
from gateway.cli.arguments import add_common, unicode_text
from gateway.cli.stores import open_store, run_async
from gateway.cli.terminal import Terminal
from gateway.process import Clock, Entropy
from gateway.sealing_keys import KEY_BYTES, write_key
from gateway.settings import Settings
from gateway.supervisor.ground import secret_key
from router.bridge import AnyBridge
from router.bridges import discover
from router.bridging.accounts import Accounts, ProjectBridge
from router.model.bridge_option import COMMON_OPTIONS, Option, Takes
from router.model.errors import ErrorCode, PushError
from router.model.ids import ProjectId, parse_project_id
from router.store.projects import Projects
from router.telemetry.metrics import Metrics

_HOLDER: Final = "project"
_PREFIX: Final = "credential_"


def add_bridges(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="bridge_action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="give credentials, new or changed")
    add.add_argument("name", metavar="PROJECT", help="the project's id")
    kinds = add.add_subparsers(dest="bridge", metavar="BRIDGE", required=True)
    leaves = [_kind(kinds.add_parser(kind.name), kind) for kind in discover().values()]
    for leaf in leaves:
        leaf.add_argument("--no-test", action="store_true", help="do not ask the provider now")
    test = actions.add_parser("test", help="ask the provider whether the credentials are good")
    listed = actions.add_parser("list", help="show a project's bridges and how they are")
    remove = actions.add_parser("remove", help="forget a bridge and its credentials")
    new_key = actions.add_parser("new-key", help="make a key for the setting secret_key")
    reseal = actions.add_parser("reseal", help="seal all credentials with the newest key")
    for action in (test, listed, remove):
        action.add_argument("name", metavar="PROJECT", help="the project's id")
    for action in (test, remove):
        action.add_argument("bridge", metavar="BRIDGE", help=", ".join(discover()))
    for action in (*leaves, test, listed):
        action.add_argument("--json", action="store_true", help="for programs")
    for action in (*leaves, test, listed, remove, new_key, reseal):
        add_common(action)


def _kind(parser: argparse.ArgumentParser, kind: AnyBridge) -> argparse.ArgumentParser:
    for option in (*kind.takes.OPTIONS, *COMMON_OPTIONS):
        dest = _PREFIX + option.field
        if option.takes is Takes.SWITCH:
            parser.add_argument(
                option.flag, dest=dest, help=option.help, action="store_const", const=True
            )
        else:
            parser.add_argument(
                option.flag,
                dest=dest,
                help=option.help,
                metavar=option.metavar,
                required=option.required,
                type=unicode_text,
            )
    return parser


def run_bridges(settings: Settings, args: argparse.Namespace) -> int:
    """Do what the action says."""
    match args.bridge_action:
        case "add":
            run_async(_add(settings, args))
        case "test":
            return run_async(_try(settings, args))
        case "list":
            run_async(_list(settings, args))
        case "remove":
            run_async(_remove(settings, args))
        case "new-key":
            Terminal().line(write_key(Entropy().bytes(KEY_BYTES)))
        case _:
            return run_async(_reseal(settings))
    return 0


@contextlib.asynccontextmanager
async def _accounts(settings: Settings) -> AsyncIterator[tuple[Accounts, ProjectsService]]:
    clock, entropy = Clock(), Entropy()
    async with open_store(settings, _HOLDER) as store:
        keyed = msgspec.structs.replace(settings, secret_key=secret_key(settings, entropy.bytes))
        service = ProjectsService(Projects(store), clock.now_ms, entropy.bytes)
        metrics = Metrics(CollectorRegistry())
        yield accounts_of(keyed, store, clock, entropy, metrics), service


async def _add(settings: Settings, args: argparse.Namespace) -> None:
    kind = discover()[args.bridge]
    options = (*kind.takes.OPTIONS, *COMMON_OPTIONS)
    raw = {option.field: value for option in options if (value := _value(option, args)) is not None}
    project = _id(args.name)
    async with _accounts(settings) as (accounts, service):
        await service.require(project)
        try:
            account = await accounts.put(project, kind.name, raw)
        except PushError as error:
            raise _in_flags(error, options) from None
        if not args.no_test:
            account = await accounts.test(project, kind.name)
    _show(project, account, as_json=args.json)


def _value(option: Option, args: argparse.Namespace) -> object:
    given: str | bool | None = getattr(args, _PREFIX + option.field)
    if not isinstance(given, str) or option.takes in {Takes.TEXT, Takes.SWITCH}:
        return given
    try:
        text = Path(given).read_text("utf-8").strip()
        return json.loads(text) if option.takes is Takes.JSON_FILE else text
    except OSError as error:
        raise _refused(f"{option.flag}: {given} cannot be read: {error.strerror}") from None
    except ValueError:  # its words may be a secret's
        raise _refused(f"{option.flag}: {given} is no {option.takes.value}") from None


def _in_flags(error: PushError, options: tuple[Option, ...]) -> PushError:
    """Name options instead of the fields that they set."""
    if not error.violations:
        return error
    flags = {option.field: option.flag for option in options}
    said = []
    for violation in error.violations:
        field = violation.field
        flag = flags.get(field.partition(".")[0], field)
        inside = f" ({field})" if "." in field else ""
        said.append(f"{flag}{inside}: {violation.description}")
    return PushError(error.code, "; ".join(said))


def _refused(text: str) -> PushError:
    return PushError(ErrorCode.INVALID_ARGUMENT, text)


async def _try(settings: Settings, args: argparse.Namespace) -> int:
    project = _id(args.name)
    async with _accounts(settings) as (accounts, _):
        account = await accounts.test(project, args.bridge)
    if args.json:
        Terminal().json(_facts(account))
    else:
        _tell(account)
    return 0 if account.state.test is not None and account.state.test.ok else 1


async def _list(settings: Settings, args: argparse.Namespace) -> None:
    project = _id(args.name)
    async with _accounts(settings) as (accounts, service):
        await service.require(project)
        found = await accounts.all(project)
    if args.json:
        Terminal().json([_facts(account) for account in found])
        return
    rows = [(one.name, one.condition, _test(one), _details(one)) for one in found]
    Terminal().table(("bridge", "state", "last test", "details"), rows)


async def _remove(settings: Settings, args: argparse.Namespace) -> None:
    async with _accounts(settings) as (accounts, _):
        await accounts.remove(_id(args.name), args.bridge)
    Terminal().line(f"{args.bridge} is removed from {args.name}")


async def _reseal(settings: Settings) -> int:
    async with _accounts(settings) as (accounts, _):
        resealed = await accounts.reseal()
    terminal = Terminal()
    terminal.mark(good=True, text=f"{resealed.done} sealed with the newest key")
    for reason in resealed.closed:
        terminal.mark(good=False, text=reason)
    return 1 if resealed.closed else 0


def _show(project: ProjectId, account: ProjectBridge, *, as_json: bool) -> None:
    terminal = Terminal()
    if as_json:
        terminal.json({"project": project, **_facts(account)})
        return
    shown = {} if account.credentials is None else account.credentials.shown()
    terminal.pairs({"project": project, "bridge": account.name, **shown})
    if account.advice:
        terminal.mark(good=None, text=account.advice)
    _tell(account)


def _tell(account: ProjectBridge) -> None:
    """Print what the last test found."""
    test = account.state.test
    if test is not None:
        good = test.ok if test.ok or test.refused else None
        Terminal().mark(good, test.says if good is not None else f"not known: {test.says}")


def _facts(account: ProjectBridge) -> dict[str, object]:
    state = account.state
    return {
        "name": account.name,
        "state": account.condition,
        "details": {} if account.credentials is None else account.credentials.shown(),
        "advice": account.advice,
        "suspended": {
            audience: {"reason": one.reason, "since_ms": one.since_ms}
            for audience, one in state.suspended.items()
        },
        "last_test": None if state.test is None else msgspec.to_builtins(state.test),
        "closed": account.closed,
    }


def _test(account: ProjectBridge) -> str:
    test = account.state.test
    if test is None or test.ok:
        return "none" if test is None else "passed"
    return f"{'failed' if test.refused else 'not known'}: {test.says}"


def _details(account: ProjectBridge) -> str:
    shown = {} if account.credentials is None else account.credentials.shown()
    suspended = [f"{audience}: {one.reason}" for audience, one in account.state.suspended.items()]
    facts = [f"{name}={value}" for name, value in shown.items()]
    return "  ".join(filter(None, (account.closed, *suspended, *facts)))


def _id(text: str) -> ProjectId:
    if (project := parse_project_id(text)) is None:
        raise _refused(f"{text!r} is not a project id")
    return project
