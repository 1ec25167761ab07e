"""What Linux says about a process: CPU time, memory, children (proc(5))."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def cpu_s(pid: int) -> float:
    """Give the CPU seconds of a process, all threads, and of the children that it has waited for.

    The children count because a store forks to rewrite its log. 0 where the process is gone.
    """
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS  # utime stime cutime cstime


def cpu_split_s(pid: int) -> tuple[float, float]:
    """Give the CPU seconds of a process, all threads: its own code's, and those in system calls."""
    user, system = map(int, _stat(pid)[11:13])
    return user / _TICKS, system / _TICKS


def memory_bytes(pid: int) -> int:
    """Give the proportional set size (PSS): resident memory, shared pages split among sharers."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no Pss of process {pid}")


def descriptors(pid: int) -> int:
    """Give how many descriptors a process has open.

    Linux tells since 6.2 as the size of the directory; before, it is counted.

    Raises:
        OSError: there is no such process, or it is not ours to look at.
    """
    directory = _PROC / str(pid) / "fd"
    return directory.stat().st_size or sum(1 for _ in directory.iterdir())


def parent_of(pid: int) -> int:
    """Give the parent's pid.

    Raises:
        OSError: there is no such process.
    """
    return int(_stat(pid)[1])


def command(pid: int) -> list[str]:
    """Give the command line of a process; empty where it is gone."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def descendants(root: int) -> list[int]:
    """List all children of a process, and theirs, by pid."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(parent_of(int(entry.name)), []).append(int(entry.name))
            except OSError:
                continue
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return sorted(found)


class CpuMeter:
    """Adds up CPU time by role between two moments.

    Args:
        roles: the pids of each role.
    """

    def __init__(self, roles: Mapping[str, Iterable[int]]) -> None:
        self._roles = {role: list(pids) for role, pids in roles.items()}
        self._start = self._read()

    def _read(self) -> dict[str, float]:
        return {role: sum(map(cpu_s, pids)) for role, pids in self._roles.items()}

    def spent_s(self) -> dict[str, float]:
        """Give the CPU seconds of each role since this meter was made."""
        return {role: value - self._start[role] for role, value in self._read().items()}


def _stat(pid: int) -> list[str]:
    text = (_PROC / str(pid) / "stat").read_text()
    return text[text.rindex(")") + 2 :].split()  # the name may hold spaces and parentheses
