"""The checks of `pushwire doctor`. Each looks at one thing and says what to do about it."""

import asyncio
import os
import platform
import resource
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from gateway.cli.bridge_findings import bridge_findings
from gateway.cli.finding import Finding
from gateway.cli.store_diagnosis import store_findings
from gateway.cli.stores import open_store
from gateway.process import Clock
from gateway.settings import Settings, unknown_variables
from gateway.supervisor.ground import reserve, running_endpoints
from router.model.errors import PushError
from router.store.connection import Store

_DESCRIPTORS_LOW: Final = 1024
_DESCRIPTORS_GOOD: Final = 65_536
_BACKLOG_GOOD: Final = 1024
_DISK_FAIL_BYTES: Final = 100 * 1024 * 1024
_DISK_WARN_BYTES: Final = 2 * 1024 * 1024 * 1024
_BUILT_MS: Final = 1_750_000_000_000
"""The summer of 2025: a clock before it is wrong."""
_SKEW_MS: Final = 1000


async def examine(settings: Settings) -> list[Finding]:
    """Make all checks, in the order in which they are read."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _python,
        _descriptors,
        _backlog,
        _local_ports,
        _tcp_memory,
        _overcommit,
        _disk,
        _variables,
    )
    return [
        *(check(settings) for check in checks),
        *_ports(settings),
        *await _store(settings),
    ]


def kernel_value(name: str) -> str:
    """Read a value below /proc/sys, or give the empty text where there is none."""
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


def descriptors(soft: int, hard: int) -> Finding:
    """Judge the limits of open files: a device is one, on its shard."""
    found = f"{soft} per process (hard limit {hard})"
    advice = (
        f"a shard holds one descriptor per device: `ulimit -n {_DESCRIPTORS_GOOD}`, or "
        f"LimitNOFILE={_DESCRIPTORS_GOOD} in the systemd unit"
    )
    if soft == resource.RLIM_INFINITY or soft >= _DESCRIPTORS_GOOD:
        return Finding("descriptors", good=True, found=found)
    return Finding("descriptors", False if soft < _DESCRIPTORS_LOW else None, found, advice)


def disk(free_bytes: int, where: str) -> Finding:
    """Judge the room for the append-only file, which doubles while it is rewritten."""
    found = f"{free_bytes / 2**30:.1f} GiB free in {where}"
    if free_bytes >= _DISK_WARN_BYTES:
        return Finding("disk", good=True, found=found)
    advice = "make room, or choose another --data-dir: a full disk stops every send"
    return Finding("disk", False if free_bytes < _DISK_FAIL_BYTES else None, found, advice)


def clock(ours_ms: int, store_ms: int) -> Finding:
    """Judge the wall clock, from which times to live count."""
    skew_ms = ours_ms - store_ms
    found = f"{abs(skew_ms)} ms from the store's"
    advice = "run chrony or systemd-timesyncd on both machines: times to live count from it"
    if ours_ms < _BUILT_MS:
        return Finding("clock", good=False, found="lies in the past", advice=advice)
    return Finding("clock", True if abs(skew_ms) <= _SKEW_MS else None, found, advice)


def port(name: str, host: str, number: int) -> Finding:
    """Judge whether a port can be had; `name` is its setting."""
    if number == 0:
        return Finding(name, good=True, found="a free one")
    try:
        with reserve(name, host, number):
            return Finding(name, good=True, found=f"{number} is free")
    except PushError as error:
        return Finding(name, good=False, found=f"{number} cannot be had", advice=error.message)


def _python(_settings: Settings) -> Finding:
    return Finding(
        "python",
        good=True,
        found=f"{platform.python_version()}, uvloop {version('uvloop')}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} processors",
    )


def _descriptors(_settings: Settings) -> Finding:
    return descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE))


def _backlog(_settings: Settings) -> Finding:
    text = kernel_value("net/core/somaxconn")
    if not text:
        return Finding("accept queue", good=None, found="unknown: not Linux")
    good = int(text) >= _BACKLOG_GOOD
    advice = f"sysctl -w net.core.somaxconn={_BACKLOG_GOOD * 4}: storms of reconnects need room"
    return Finding("accept queue", True if good else None, f"somaxconn {text}", advice)


def _local_ports(_settings: Settings) -> Finding:
    text = kernel_value("net/ipv4/ip_local_port_range")
    if not text:
        return Finding("local ports", good=None, found="unknown: not Linux")
    low, high = (int(word) for word in text.split())
    advice = "sysctl -w net.ipv4.ip_local_port_range='1024 65535' where a proxy stands in front"
    good = high - low >= 20_000  # noqa: PLR2004 - the default range has 28,000
    return Finding("local ports", True if good else None, f"{low} to {high}", advice)


def _tcp_memory(_settings: Settings) -> Finding:
    text = kernel_value("net/ipv4/tcp_mem")
    if not text:
        return Finding("tcp memory", good=None, found="unknown: not Linux")
    limit_bytes = int(text.split()[2]) * os.sysconf("SC_PAGE_SIZE")
    good = limit_bytes >= 256 * 2**20
    advice = "raise the third number of net.ipv4.tcp_mem: each busy socket takes kernel memory"
    return Finding("tcp memory", True if good else None, f"{limit_bytes / 2**20:.0f} MiB", advice)


def _overcommit(settings: Settings) -> Finding:
    text = kernel_value("vm/overcommit_memory")
    if not text or settings.store_url:
        return Finding("overcommit", good=True, found="not asked: the store runs elsewhere")
    good = text == "1"
    advice = (
        "sysctl -w vm.overcommit_memory=1: without it the store may fail to rewrite its log "
        "when memory is short"
    )
    return Finding("overcommit", True if good else None, f"vm.overcommit_memory {text}", advice)


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    return disk(shutil.disk_usage(folder).free, str(folder))


def _variables(_settings: Settings) -> Finding:
    unknown = unknown_variables()
    if not unknown:
        return Finding("environment", good=True, found="every PUSHWIRE_ variable is a setting")
    found = f"{', '.join(unknown)} mean nothing"
    return Finding("environment", None, found, "`pushwire settings` lists what there is")


def _ports(settings: Settings) -> list[Finding]:
    if running := running_endpoints(settings.data_dir):
        found = f"`pushwire serve` runs, process {running.pid}: {running.api} {running.devices}"
        return [Finding("ports", good=True, found=found)]
    return [
        port("api_port", settings.host, settings.api_port),
        port("device_port", settings.host, settings.device_port),
        port("ops_port", settings.host, settings.ops_port),
    ]


async def _store(settings: Settings) -> list[Finding]:
    try:
        async with asyncio.timeout(60), open_store(settings, "doctor", unfit_too=True) as store:
            return await _look_into(store, settings)
    except (PushError, TimeoutError) as error:
        advice = "see store.log in the data directory, or --store-url"
        return [Finding("store", good=False, found=str(error) or "does not answer", advice=advice)]


async def _look_into(store: Store, settings: Settings) -> list[Finding]:
    servers = await store.survey()
    time_reply = await store.batch.call("TIME")
    seconds, micros = (int(part) for part in time_reply) if isinstance(time_reply, list) else (0, 0)
    return [
        *store_findings(servers, settings),
        clock(Clock().now_ms(), seconds * 1000 + micros // 1000),
        *await bridge_findings(store, settings),
    ]
