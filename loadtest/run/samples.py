"""What the processes of a gateway use, and what its metrics count, seen from outside."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loadtest.http import encode_request, open_connection
from loadtest.processes import cpu_s, cpu_split_s, descriptors, memory_bytes

_PAGE: Final = 4096
_OK: Final = 200
_PSS_S: Final = 10.0
"""Between two looks at the PSS of a process: the kernel walks all its pages for one."""
_METRIC: Final = re.compile(r"^(pushwire_\w+)(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_COUNTED: Final = (
    "pushwire_sends_total",
    "pushwire_deliveries_total",
    "pushwire_redeliveries_total",
    "pushwire_acks_total",
    "pushwire_connects_total",
    "pushwire_disconnects_total",
    "pushwire_hints_total",
    "pushwire_hints_dropped_total",
    "pushwire_store_errors_total",
    "pushwire_callbacks_total",
)

Pids = Callable[[], Mapping[str, int]]
"""Gives the pids of a gateway's processes by name, as they are now."""


class _Serve(msgspec.Struct):
    pid: int = 0
    ops: str = ""
    processes: dict[str, int] = {}


def pids_of(data_dir: Path) -> dict[str, int]:
    """Name the processes of the `serve` that runs on a data directory; empty where none does."""
    try:
        found = msgspec.json.decode((data_dir / "run" / "serve.json").read_bytes(), type=_Serve)
    except (OSError, msgspec.MsgspecError):
        return {}
    return {**{name: pid for name, pid in found.processes.items() if pid}, "serve": found.pid}


class Uses(msgspec.Struct):
    """What processes use, each by the name of the process."""

    pids: dict[str, int] = {}
    cpu: dict[str, float] = {}
    """Since the last look, percent of a core."""
    memory: dict[str, float] = {}
    """Resident, MiB."""
    pss: dict[str, float] = {}
    """With shared pages split among their sharers, MiB."""
    descriptors: dict[str, int] = {}


class Sampler:
    """Looks at processes now and then.

    Args:
        pids: which.
    """

    def __init__(self, pids: Pids) -> None:
        self._pids = pids
        self._last: dict[int, float] = {}
        self._last_s = time.monotonic()
        self._spent: dict[str, float] = {}
        self._pss: dict[int, tuple[float, float]] = {}

    def sample(self) -> Uses:
        """Look at all processes."""
        now_s = time.monotonic()
        passed_s, self._last_s = max(1e-3, now_s - self._last_s), now_s
        uses = Uses()
        for name, pid in self._pids().items():
            spent_s = _spent_s(name, pid)
            if not spent_s:
                continue
            delta_s = max(0.0, spent_s - self._last.get(pid, 0.0 if self._last else spent_s))
            self._last[pid] = spent_s
            self._spent[name] = self._spent.get(name, 0.0) + delta_s
            try:
                uses.descriptors[name] = descriptors(pid)
                uses.pss[name] = self._pss_mib(pid, now_s)
                uses.memory[name] = round(_resident_bytes(pid) / 2**20, 1)
            except OSError:
                continue
            uses.pids[name] = pid
            uses.cpu[name] = round(100 * delta_s / passed_s, 1)
        return uses

    def _pss_mib(self, pid: int, now_s: float) -> float:
        at_s, mib = self._pss.get(pid, (0.0, 0.0))
        if not mib or now_s - at_s >= _PSS_S:
            mib = round(memory_bytes(pid) / 2**20, 3)
            self._pss[pid] = now_s, mib
        return mib

    def take_spent(self) -> dict[str, float]:
        """Give the CPU seconds by name since the last call of this; lives that ended count too."""
        self.sample()
        spent, self._spent = self._spent, {}
        return {name: round(seconds, 3) for name, seconds in spent.items()}

    def footprint_bytes(self, role: str) -> int:
        """Give the memory of a role's processes, with shared pages split among their sharers."""
        total = 0
        for name, pid in self._pids().items():
            if name.partition("-")[0] == role:
                try:
                    total += memory_bytes(pid)
                except OSError:
                    continue
        return total


async def counters(ops: str) -> dict[str, float]:
    """Read what the gateway counted so far; empty where its ops port does not answer."""
    found: dict[str, float] = {}
    try:
        connection = await open_connection(ops)
        try:
            answer = await connection.request(encode_request("GET", ops, "/metrics", b""))
        finally:
            connection.close()
    except (OSError, TimeoutError):
        return found
    if answer.status == _OK:
        for name, value in _METRIC.findall(answer.body.decode()):
            if name in _COUNTED:
                found[name] = found.get(name, 0.0) + float(value)
    return found


def _spent_s(name: str, pid: int) -> float:
    """Give the CPU seconds of a process: 0 where it is gone.

    A store counts with the children that rewrite its log; the supervisor without the processes
    that it has seen die.
    """
    if name.partition("-")[0] == "store":
        return cpu_s(pid)
    try:
        return sum(cpu_split_s(pid))
    except OSError:
        return 0.0


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
