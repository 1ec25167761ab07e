"""Run one role: for a supervisor, or alone."""

import argparse
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from gateway.cli.arguments import add_all_settings, config_of, flags_of, settings_of
from gateway.cli.stores import open_store, run_async, with_url
from gateway.embedded_store import running_url
from gateway.ops import Exposition, Problems, serve_ops, store_problems
from gateway.process import Entropy, Role, RoleContext, Supervision, alone, opening, run_role
from gateway.settings import Settings, SettingsError, given_names
from gateway.supervisor.ground import admin_key, secret_key
from router.model.errors import ErrorCode, PushError, StoreUnavailableError
from router.store.connection import Store, StoreOptions
from router.store.leases import Leases
from router.telemetry import logs

_PARTS: Final = 3


def configure_role(parser: argparse.ArgumentParser) -> None:
    """Add what every role takes."""
    add_all_settings(parser)
    parser.add_argument("--supervised", help=argparse.SUPPRESS)


def start_role(name: str, role: Role, args: argparse.Namespace) -> int:
    """Run a role until it is told to stop, and give the exit code.

    Raises:
        SettingsError: a setting has a bad value.
        PushError: it refused to run.
    """
    settings = settings_of(args)
    supervision = _supervision(args.supervised)
    if supervision is not None:
        logs.configure(settings.log_level, settings.log_format, supervision.name)
        return run_role(supervision.name, role, settings, supervision=supervision)
    logs.configure(settings.log_level, settings.log_format, name)
    if not settings.store_url:
        url = run_async(running_url(settings.data_dir))
        if not url:
            raise PushError(
                ErrorCode.UNAVAILABLE,
                f"no `pushwire serve` runs in {settings.data_dir}, whose store a {name} could use; "
                "give --store-url, or the --data-dir of one that runs",
            )
        settings = with_url(settings, url)
    run_async(_refuse_unfit_store(settings, name))
    entropy = Entropy().bytes
    settings = msgspec.structs.replace(
        settings,
        admin_key=admin_key(settings, entropy),
        secret_key=secret_key(settings, entropy),
    )
    has_ops = "ops_port" in given_names(flags_of(args), config=config_of(args))
    return run_role(name, role, settings, beside=_own_ops if has_ops else alone)


async def _refuse_unfit_store(settings: Settings, name: str) -> None:
    """Stop where the store is of no use; one that is away is waited for.

    Raises:
        PushError: a server is too old, or would lose what Pushwire answers for.
    """
    with contextlib.suppress(StoreUnavailableError):
        async with open_store(settings, name):
            pass


def _supervision(text: str | None) -> Supervision | None:
    if not text:
        return None
    words = text.split(":")
    if len(words) != _PARTS:
        raise SettingsError("--supervised is for the supervisor alone")
    return Supervision(int(words[0]), int(words[1]), words[2])


@contextlib.asynccontextmanager
async def _own_ops(settings: Settings, context: RoleContext) -> AsyncIterator[None]:
    options = StoreOptions(url=settings.store_url)
    now_ms = context.clock.now_ms
    async with Store(options, context.metrics, now_ms, context.entropy.bytes) as store:
        leases = Leases(store)

        async def problems() -> Problems:
            if not context.is_ready:
                return {context.name: "has not come up"}
            return await store_problems(store.ping, leases.shards, now_ms())

        exposition = Exposition(context.registry)
        ops = serve_ops(settings.host, settings.ops_port, exposition, problems)
        async with contextlib.AsyncExitStack() as stack:
            with opening("ops_port", settings.host, settings.ops_port):
                await stack.enter_async_context(ops)
            yield
