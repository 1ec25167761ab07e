"""Standard Webhooks' official library for Node, installed for the time of a test."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

_PACKAGE: Final = "standardwebhooks@1.0.0"
_OPTIONS: Final = (
    *("--no-save", "--no-audit", "--no-fund", "--no-package-lock"),
    "--ignore-scripts",
)


def install_standardwebhooks(folder: Path) -> None:
    """Install it into a folder, or skip the test where that cannot be done."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no node with npm")
    done = subprocess.run(
        [npm, "install", *_OPTIONS, "--prefix", str(folder), _PACKAGE],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install {_PACKAGE}: {done.stderr[-300:]}")
