"""Each sans-I/O module that does something has a test file of its own."""

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.tidy.tree import ROOT, functions, name_of, with_suffix


def sans_io_modules() -> list[Path]:
    """The modules of import-linter's contract that do something, packages taken apart."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [each for each in contracts["contracts"] if each["name"] == "Sans-I/O"]
    found: list[Path] = []
    for module in contract["source_modules"]:
        path = ROOT / module.replace(".", "/")
        below = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        found += [each for each in below if each.exists() and functions(each)]
    return found


def named(module: Path) -> str:
    """What a module is called: a package by its own name."""
    return module.parent.name if module.stem == "__init__" else module.stem


def own_tests(module: Path) -> list[str]:
    """Test files named after a module, or after the package that it is a part of."""
    names = {module.parent.name} | ({module.stem} - {"__init__"})
    return [
        name_of(path)
        for path in with_suffix(".py")
        if any(re.fullmatch(rf"test_{name}(_\w+)?", path.stem) for name in names)
    ]


@pytest.mark.parametrize("module", sans_io_modules(), ids=name_of)
def test_a_module_without_io_has_its_own_test_file(module: Path) -> None:
    same_name = Counter(map(named, sans_io_modules()))[named(module)]
    assert len(own_tests(module)) >= same_name
