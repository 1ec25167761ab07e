"""`pushwire loadtest run`: from the words of the command line to the files that a run leaves."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from loadtest.descriptors import allow_descriptors
from loadtest.report.page import page
from loadtest.run.ground import Ground, check, own_gateway
from loadtest.run.leader import Leader, Screen
from loadtest.run.live import LiveScreen
from loadtest.run.member import flattened
from loadtest.run.plain import PlainScreen
from loadtest.run.protocol import Place
from loadtest.run.result import Result, write
from loadtest.run.spec import Spec

LOCAL_API: Final = "http://127.0.0.1:8080"
"""Where a gateway is looked for whose project is named, and not its URL."""
RESULTS: Final = Path("loadtest-results")
_SPARE_DESCRIPTORS: Final = 200
_INTERRUPTED: Final = 130


class OutOfReachError(Exception):
    """The run cannot be had as it was asked for; the text says what to do."""


class Given(msgspec.Struct, kw_only=True):
    """A gateway that runs already, as the command line names it; empty fields where it does not."""

    api: str = ""
    devices_url: str = ""
    project: str = ""
    api_key: str = ""
    client_key: str = ""
    ops: str = ""
    data_dir: Path | None = None
    owned: bool = False


class Wanted(msgspec.Struct):
    """What a `run` is to do."""

    scenario: str
    spec: Spec
    given: Given
    out: Path | None
    plain: bool = False


def carry_out(wanted: Wanted) -> int:
    """Run it, write the files, and give the exit code.

    Raises:
        OutOfReachError, GroundError, MemberError, SendError, OSError: it could not be carried out.
    """
    folder = wanted.out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise OutOfReachError(f"{folder} cannot be written to: choose another with --out")
    wanted.given = _with_environment(wanted.given)
    _raise_descriptors(wanted.spec, shards=0 if wanted.given.api else wanted.spec.gateway.shards)
    try:
        result = asyncio.run(_run(wanted))
    except asyncio.CancelledError:
        return _INTERRUPTED
    except BaseExceptionGroup as group:
        first = flattened(group)[0]
        if isinstance(first, KeyboardInterrupt | asyncio.CancelledError):
            return _INTERRUPTED
        raise first from None
    stem = folder / f"{wanted.scenario}-{_stamp(result)}"
    write(result, stem.with_suffix(".json"))
    stem.with_suffix(".html").write_text(page(result))
    sys.stdout.write(f"{summary(result)}\n{stem}.json\n{stem}.html\n")
    return 0 if result.kept else 1


def summary(result: Result) -> str:
    """Say in a few lines how a run went."""
    lines = [result.report]
    for name, one in result.latencies.items():
        quantiles = ", ".join(f"{key} {value:.1f}" for key, value in one.quantiles.items())
        lines.append(f"{name}: {quantiles}, max {one.max:.1f} ms ({one.count})")
    lines += [f"{name}: {value:g}" for name, value in result.figures.items()]
    return "\n".join(lines)


async def _run(wanted: Wanted) -> Result:
    with _screen(wanted) as screen:
        async with _ground(wanted) as ground:
            leader = Leader(wanted.scenario, wanted.spec, ground, screen)
            with _interruptible(leader):
                return await leader.run()


def _screen(wanted: Wanted) -> contextlib.AbstractContextManager[Screen]:
    """Draw on a terminal; write lines where there is none, or where they are asked for."""
    console = Console(stderr=True)
    if console.is_terminal and sys.stdout.isatty() and not wanted.plain:
        return LiveScreen(wanted.scenario, wanted.spec, console)
    return contextlib.nullcontext(PlainScreen())


@contextlib.contextmanager
def _interruptible(leader: Leader) -> Iterator[None]:
    """First Ctrl-C: send no more, and judge. Second: give up what has no answer. Third: end."""
    steps = [lambda: leader.halt(now=False), lambda: leader.halt(now=True)]
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def pressed() -> None:
        if steps:
            steps.pop(0)()
        elif task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, pressed)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _ground(wanted: Wanted) -> AsyncIterator[Ground]:
    """Give the gateway: the one that is named, or one of the run's own."""
    given = wanted.given
    if not given.api:
        async with own_gateway(wanted.spec) as ground:
            yield ground
        return
    lacking = [
        f"--{name.replace('_', '-')}"
        for name in ("project", "api_key", "client_key")
        if not getattr(given, name)
    ]
    if lacking:
        raise OutOfReachError(f"with --api the run needs {', '.join(lacking)} too")
    if wanted.spec.needs_own_gateway:
        raise OutOfReachError(
            "this scenario kills processes, which it does only to a gateway that it started: "
            "leave out --api, or add --set faults=[]"
        )
    place = Place(
        api=given.api.rstrip("/"),
        devices=given.devices_url,
        project=given.project,
        api_key=given.api_key,
        client_key=given.client_key,
    )
    for url in (place.api, place.devices, given.ops):
        check(url, owned=given.owned)
    yield Ground(place, ops=given.ops, data_dir=given.data_dir, owned=given.owned)


def _with_environment(given: Given) -> Given:
    """Fill in from the environment what the command line does not name."""
    variables = {
        "api": "API_URL",
        "devices_url": "DEVICE_URL",
        "project": "PROJECT",
        "api_key": "API_KEY",
        "client_key": "CLIENT_KEY",
    }
    found = {
        name: os.environ[f"PUSHWIRE_{variable}"]
        for name, variable in variables.items()
        if not getattr(given, name) and os.environ.get(f"PUSHWIRE_{variable}")
    }
    filled = msgspec.structs.replace(given, **found)
    if filled.project and not filled.api:
        filled.api = LOCAL_API
    return filled


def _raise_descriptors(spec: Spec, shards: int) -> None:
    """Allow this process and its children as many descriptors as they need.

    Args:
        spec: how many devices there are.
        shards: of the gateway that the run starts; 0 where it starts none.

    Raises:
        OutOfReachError: the hard limit is too low.
    """
    each = -(-spec.devices // min(spec.processes, spec.devices))
    needed = max(each, -(-spec.devices // shards) if shards else 0) + _SPARE_DESCRIPTORS
    if limit := allow_descriptors(needed):
        raise OutOfReachError(
            f"{spec.devices} devices need {needed} file descriptors in one process; the limit is "
            f"{limit}: raise it (ulimit -Hn), or set processes and gateway.shards higher"
        )


def _stamp(result: Result) -> str:
    return result.started.partition("+")[0].replace("-", "").replace(":", "")
