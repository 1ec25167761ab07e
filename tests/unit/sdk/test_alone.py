"""The SDK needs websockets, msgpack and the standard library; nothing else."""

import subprocess
import sys
from pathlib import Path

import sdk_client

ROOT = Path(sdk_client.__file__).parents[1]
PROGRAM = """
import sys

ALLOWED = {"sdk_client", "websockets", "msgpack"} | sys.stdlib_module_names
refused = []


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED:
            refused.append(name)
            raise ModuleNotFoundError(f"no module named {name!r}", name=name)


sys.meta_path.insert(0, Refuse())
import importlib
import pkgutil
import sdk_client

for module in pkgutil.iter_modules(sdk_client.__path__):
    importlib.import_module(f"sdk_client.{module.name}")
for name in sdk_client.__all__:
    getattr(sdk_client, name)
from sdk_client import *
print(len(sdk_client.__all__), Device.__name__, *refused)
"""
WIRE_ALONE = """
import sys
import sdk_client.wire

print("websockets" in sys.modules, "asyncio" in sys.modules)
"""


def run(program: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def test_it_imports_alone() -> None:
    count, name, *refused = run(PROGRAM)
    assert (int(count), name) == (len(sdk_client.__all__), "Device")
    # Optional parts of websockets, and of the standard library on Jython.
    assert {each.partition(".")[0] for each in refused} <= {"python_socks", "werkzeug", "org"}


def test_the_wire_format_costs_no_more_than_itself() -> None:
    assert run(WIRE_ALONE) == ["False", "False"]


def test_unknown_names_are_refused() -> None:
    assert not hasattr(sdk_client, "Unknown")


def test_it_says_that_it_is_typed() -> None:
    assert (Path(sdk_client.__file__).parent / "py.typed").exists()
