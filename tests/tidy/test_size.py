"""Files of at most 400 lines, functions of at most 70."""

from pathlib import Path
from typing import Final

import pytest

from tests.tidy.tree import functions, name_of, with_suffix

FILE_LINES: Final = 400
FUNCTION_LINES: Final = 70

# Exceptions: name → lines it has. The list only shrinks; a reason stands beside each.
LONG_FILES: Final[dict[str, int]] = {}
LONG_FUNCTIONS: Final[dict[str, int]] = {
    # A table: one call for each metric, written where it is read.
    "router/telemetry/metrics.py:__init__": 250,
}


def long_files() -> dict[str, int]:
    found = {}
    for path in with_suffix(".py", ".lua"):
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES:
            found[name_of(path)] = lines
    return found


def long_functions() -> dict[str, int]:
    found = {}
    for path in with_suffix(".py"):
        for function in functions(path):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES:
                found[f"{name_of(path)}:{function.name}"] = lines
    return found


@pytest.mark.parametrize(
    ("found", "excepted"),
    [(long_files(), LONG_FILES), (long_functions(), LONG_FUNCTIONS)],
    ids=["files", "functions"],
)
def test_nothing_is_too_long(found: dict[str, int], excepted: dict[str, int]) -> None:
    too_long = {name: lines for name, lines in found.items() if lines > excepted.get(name, 0)}
    assert not too_long, "split these, by what they do"


@pytest.mark.parametrize(
    ("found", "excepted"),
    [(long_files(), LONG_FILES), (long_functions(), LONG_FUNCTIONS)],
    ids=["files", "functions"],
)
def test_exceptions_only_shrink(found: dict[str, int], excepted: dict[str, int]) -> None:
    shrunk = {name: found.get(name, 0) for name in excepted if name not in found}
    assert not shrunk, "these became shorter: lower or remove their exceptions"


def test_long_ones_are_found(tmp_path: Path) -> None:
    source = tmp_path / "long.py"
    source.write_text("def f():\n" + "    pass\n" * FUNCTION_LINES)
    (function,) = functions(source)
    assert (function.end_lineno or 0) - function.lineno + 1 > FUNCTION_LINES
