"""A real `pushwire serve` to measure: started, described and stopped from outside."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loadtest.child import stop
from loadtest.processes import command, descendants

_ROLES: Final = ("api", "shard", "worker")
RATES_LIFTED: Final = {
    "project_sends_per_s": 0,
    "project_publishes_per_s": 0,
    "device_sends_per_min": 0,
    "topic_publishes_per_min": 0,
    "address_registrations_per_min": 0,
    "address_connections_per_min": 0,
    "device_frames_per_s": 0,
}
"""Limits by rate protect a server from what a measurement does."""
ALL_LIFTED: Final = {**RATES_LIFTED, "api_queue_s": 0}
"""And what it has no time for waits, instead of being refused."""
_START_S: Final = 120.0
_EACH_S: Final = 3.0
"""More for each process, on a machine that has other things to do."""
_STOP_S: Final = 60.0


class Project(msgspec.Struct):
    """What `pushwire project create --json` prints."""

    project: str
    api_key: str
    client_key: str


class Gateway(msgspec.Struct, frozen=True):
    """A gateway that serves."""

    api: str
    devices: str
    ops: str
    pid: int
    """Of the supervisor."""
    data_dir: Path

    def pids(self) -> dict[str, list[int]]:
        """Give the pids of every process by role: api, shard, worker, store, supervisor, other."""
        roles: dict[str, list[int]] = {}
        for pid in descendants(self.pid):
            roles.setdefault(role_of(command(pid)), []).append(pid)
        return {**roles, "supervisor": [self.pid]}


def role_of(words: list[str]) -> str:
    """Tell the role of a process from its command line."""
    if words and ("valkey" in words[0] or "redis" in words[0]):
        return "store"
    return next((word for word in words if word in _ROLES), "other")


def executable() -> str:
    """Find the `pushwire` command: beside this Python, else on PATH.

    Raises:
        FileNotFoundError: it is not installed.
    """
    beside = Path(sys.executable).with_name("pushwire")
    found = str(beside) if beside.exists() else shutil.which("pushwire")
    if found is None:
        raise FileNotFoundError("pushwire is not installed: make .venv/.runtime")
    return found


@contextlib.asynccontextmanager
async def serve(
    data_dir: Path,
    *,
    flags: Mapping[str, object] | None = None,
    lifted: Mapping[str, object] = ALL_LIFTED,
) -> AsyncIterator[Gateway]:
    """Start a gateway on free ports, and stop it in the end.

    Args:
        data_dir: where its store lives; a directory used before brings its devices back.
        flags: further flags of `pushwire serve`, by name.
        lifted: those that lift limits, unless `flags` has them.

    Raises:
        ConnectionError: it did not come up.
    """
    words = ["--data-dir", str(data_dir)]
    ports = {"api_port": 0, "device_port": 0, "ops_port": 0}
    for name, value in {**ports, **lifted, **(flags or {})}.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    log_path = data_dir.with_suffix(".log")
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            executable(), "serve", *words, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    try:
        roles = (int(str((flags or {}).get(name, 1))) for name in ("apis", "shards", "workers"))
        urls = await _ready(process, log_path, _START_S + _EACH_S * sum(roles))
        yield Gateway(urls["api"], urls["devices"], urls["ops"], process.pid, data_dir)
    finally:
        await stop(process, _STOP_S)


async def create_project(data_dir: Path, name: str, *, store_url: str = "") -> Project:
    """Make a project through the command line.

    Raises:
        ConnectionError: the command failed.
    """
    process = await asyncio.create_subprocess_exec(
        executable(),
        *("project", "create", name, "--json", "--data-dir", str(data_dir)),
        *(("--store-url", store_url) if store_url else ()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaint = await process.communicate()
    if process.returncode:
        raise ConnectionError(f"project create: {complaint.decode()}")
    return msgspec.json.decode(printed, type=Project)


async def _ready(
    process: asyncio.subprocess.Process, log_path: Path, start_s: float
) -> dict[str, str]:
    if process.stdout is None:
        raise ConnectionError("no standard output")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(start_s):
            while line := await process.stdout.readline():
                words = line.decode().split()
                if words[:1] == ["ready"]:
                    return dict(word.split("=", 1) for word in words[1:])
    tail = _tail(log_path)
    raise ConnectionError(f"pushwire serve did not come up:\n{tail}")


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:]
