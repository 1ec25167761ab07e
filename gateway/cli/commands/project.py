"""`pushwire project`; what stands behind `bridge` is in `gateway.cli.project_bridges`."""

import argparse
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from gateway.api.projects_service import (
    OVERLAP_S,
    CreatedProject,
    ProjectsService,
    RotatedUserSecret,
    ServiceAccountFile,
)
from gateway.cli.api_client import api_url
from gateway.cli.arguments import add_common, settings_of, unicode_text
from gateway.cli.project_bridges import add_bridges, run_bridges
from gateway.cli.project_limits import add_limits, changed, show
from gateway.cli.stores import open_store, run_async
from gateway.cli.terminal import Terminal
from gateway.process import Clock, Entropy
from gateway.settings import Settings
from router.model.errors import ErrorCode, PushError
from router.model.ids import ProjectId, parse_project_id
from router.model.limits import ProjectLimits
from router.model.project import ApiKey, Project
from router.store.projects import Projects

NAME: Final = "project"
_MAX_OVERLAP_S: Final = 604_800
HELP: Final = """Make and list projects, their keys and service accounts.

A project is one app: its devices, its messages, the keys of its servers.

    pushwire project create my-app
    pushwire project create my-app --json
    pushwire project list
    pushwire project keys my-app
    pushwire project service-account my-app > service-account.json    for firebase-admin
    pushwire project limits my-app --sends-per-second 20000    what it may send; alone it shows them
    pushwire project rotate-user-secret my-app    the secret that signs user tokens
    pushwire project bridge add my-app apns --help    what APNs needs; also fcm and webpush
    pushwire project bridge list my-app

Works while `serve` runs and while it does not. The secrets are shown this once.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a project and its first keys")
    create.add_argument(
        "name", type=unicode_text, help="3 to 64 letters, digits, hyphens; gives the id"
    )
    listed = actions.add_parser("list", help="show all projects")
    keys = actions.add_parser("keys", help="show a project's keys, without their secrets")
    keys.add_argument("name", help="the project's id")
    account = actions.add_parser("service-account", help="make a service account's JSON file")
    account.add_argument("name", help="the project's id")
    account.add_argument("--api-url", default="", help="of this gateway, as its clients see it")
    rotate = actions.add_parser("rotate-user-secret", help="make a new secret of user tokens")
    rotate.add_argument("name", help="the project's id")
    rotate.add_argument(
        "--overlap",
        type=int,
        default=OVERLAP_S,
        metavar="SECONDS",
        help="how long tokens of the one before stay valid; a day by default",
    )
    add_bridges(actions.add_parser("bridge", help="reach devices through APNs, FCM and Web Push"))
    limits = actions.add_parser("limits", help="show or change how fast a project may send")
    add_limits(limits)
    for action in (create, listed, keys, rotate, limits):
        action.add_argument("--json", action="store_true", help="for programs")
    for action in (create, listed, keys, account, rotate, limits):
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    settings = settings_of(args)
    match args.action:
        case "bridge":
            return run_bridges(settings, args)
        case "create":
            _show_created(run_async(_create(settings, args.name)), as_json=args.json)
        case "list":
            _show_projects(run_async(_list(settings)), as_json=args.json)
        case "keys":
            _show_keys(run_async(_keys(settings, _id(args.name))), as_json=args.json)
        case "limits":
            show(run_async(_limits(settings, _id(args.name), args)), as_json=args.json)
        case "rotate-user-secret":
            rotated = run_async(_rotate(settings, _id(args.name), args.overlap))
            _show_rotated(rotated, as_json=args.json)
        case _:
            url = api_url(settings, args.api_url) + "/oauth2/token"
            Terminal().json(run_async(_service_account(settings, _id(args.name), url)))
    return 0


@contextlib.asynccontextmanager
async def _service(settings: Settings) -> AsyncIterator[tuple[ProjectsService, Projects]]:
    async with open_store(settings, NAME) as store:
        projects = Projects(store)
        yield ProjectsService(projects, Clock().now_ms, Entropy().bytes), projects


async def _create(settings: Settings, name: str) -> CreatedProject:
    async with _service(settings) as (service, _):
        return await service.create_project(name)


async def _list(settings: Settings) -> list[Project]:
    async with _service(settings) as (_, projects):
        return list(await projects.list())


async def _limits(
    settings: Settings, project: ProjectId, args: argparse.Namespace
) -> ProjectLimits:
    async with _service(settings) as (service, _):
        found = (await service.require(project)).limits
        wanted = changed(found, args)
        return found if wanted == found else (await service.set_limits(project, wanted)).limits


async def _keys(settings: Settings, project: ProjectId) -> list[ApiKey]:
    async with _service(settings) as (service, projects):
        await service.require(project)
        return list(await projects.keys(project))


async def _service_account(settings: Settings, project: ProjectId, url: str) -> ServiceAccountFile:
    async with _service(settings) as (service, _):
        return await service.create_service_account(project, url)


async def _rotate(settings: Settings, project: ProjectId, overlap_s: int) -> RotatedUserSecret:
    if not 0 <= overlap_s <= _MAX_OVERLAP_S:
        text = f"--overlap takes 0 to {_MAX_OVERLAP_S} seconds"
        raise PushError(ErrorCode.INVALID_ARGUMENT, text)
    async with _service(settings) as (service, _):
        return await service.rotate_user_secret(project, overlap_s)


def _id(text: str) -> ProjectId:
    if (project := parse_project_id(text)) is None:
        raise PushError(ErrorCode.INVALID_ARGUMENT, f"{text!r} is not a project id")
    return project


def _show_created(created: CreatedProject, *, as_json: bool) -> None:
    if as_json:
        Terminal().json(created)
        return
    Terminal().pairs(
        {
            "project": created.project,
            "api_key": created.api_key,
            "client_key": created.client_key,
            "user_secret": created.user_secret,
        }
    )


def _show_rotated(rotated: RotatedUserSecret, *, as_json: bool) -> None:
    if as_json:
        Terminal().json(rotated)
        return
    pairs = {"user_secret": rotated.user_secret}
    if rotated.previous_until_ms:
        pairs["previous_until"] = _time(rotated.previous_until_ms)
    Terminal().pairs(pairs)


def _show_projects(projects: list[Project], *, as_json: bool) -> None:
    if as_json:
        Terminal().json(projects)
        return
    rows = [(project.id, project.name, _time(project.created_ms)) for project in projects]
    Terminal().table(("project", "name", "created"), rows)


def _show_keys(keys: list[ApiKey], *, as_json: bool) -> None:
    if as_json:
        Terminal().json(keys)
        return
    rows = [
        (
            key.id,
            f"{key.hint}…",
            "client" if key.client else "api",
            ",".join(sorted(key.scopes)),
            _time(key.created_ms),
        )
        for key in keys
    ]
    Terminal().table(("id", "key", "kind", "scopes", "created"), rows)


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="seconds")
