"""Each function of the store says what it takes, gives, tells and keeps; and takes just that."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.tidy.tree import ROOT, name_of
from tests.tidy.wrappers import Call, Handed, calls

LUA: Final = ROOT / "router" / "store" / "lua"
SHARED: Final = {"prelude.lua", "prelude_topics.lua", "prelude_bridges.lua"}
HEADER: Final = ("KEYS", "ARGV", "returns", "events", "invariant")

_UNPACKED: Final = r"local ([\w,\s]+?)\s*=\s*unpack\({0}[,)]"
_INDEXED: Final = r"(?<!\w){0}\[(\d+)\]"


def sources() -> list[Path]:
    return sorted(path for path in LUA.glob("*.lua") if path.name not in SHARED)


def header(path: Path) -> dict[str, str]:
    """The header's fields; a line that begins with two spaces goes on with the one before."""
    found: dict[str, str] = {}
    name = ""
    for line in path.read_text().splitlines()[1:]:
        if not line.startswith("-- "):
            break
        if match := re.match(r"-- (\w+): ?(.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name:
            found[name] += " " + line.removeprefix("--").strip()
    return found


def names(field: str) -> list[str]:
    """The names of a KEYS or ARGV field, without the group that repeats at its end."""
    fixed = field.partition("(")[0].split()
    return [name.strip("[]") for name in fixed if not name.endswith("…") and name != "none"]


def check_reads(body: str, table: str, listed: list[str], repeats: bool) -> None:
    """The code unpacks just the listed names, in order; or indexes no further than they go."""
    if match := re.search(_UNPACKED.format(table), body):
        unpacked = [name.strip() for name in match[1].split(",")]
        assert unpacked == listed
    else:
        indexed = max(map(int, re.findall(_INDEXED.format(table), body)), default=0)
        assert indexed == len(listed) or (repeats and indexed > len(listed))


@pytest.mark.parametrize("source", sources(), ids=name_of)
def test_a_function_has_its_header(source: Path) -> None:
    assert re.match(r"-- [A-Z](?!\w*:).*\n", source.read_text()), "it begins with what it does"
    found = header(source)
    missing = [name for name in HEADER if not found.get(name)]
    assert not missing
    order = [name for name in found if name in HEADER]
    assert order == list(HEADER)


@pytest.mark.parametrize("source", sources(), ids=name_of)
@pytest.mark.parametrize(("table", "field"), [("keys", "KEYS"), ("args", "ARGV")])
def test_a_function_reads_what_its_header_lists(source: Path, table: str, field: str) -> None:
    listed = header(source)[field]
    check_reads(source.read_text(), table, names(listed), "…" in listed)


@pytest.mark.parametrize("call", calls(), ids=lambda call: f"{call.function}-{call.where}")
def test_the_wrapper_hands_over_what_the_header_lists(call: Call) -> None:
    found = header(LUA / f"{call.function}.lua")
    for field, handed in (("KEYS", call.keys), ("ARGV", call.args)):
        assert handed == Handed(len(names(found[field])), repeats="…" in found[field]), field


def test_every_function_is_called() -> None:
    assert {source.stem for source in sources()} == {call.function for call in calls()}


def test_there_are_functions() -> None:
    assert len(sources()) >= 15


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("mailbox index", ["mailbox", "index"]),
        ("mailbox status…", ["mailbox"]),
        ("device now (message seq sent)…", ["device", "now"]),
        ("outbox [idempotency]", ["outbox", "idempotency"]),
        ("none", []),
    ],
)
def test_names(field: str, expected: list[str]) -> None:
    assert names(field) == expected
