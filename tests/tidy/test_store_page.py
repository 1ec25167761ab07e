"""The page of the store says of each function what the head of its file says."""

import re

import pytest

from tests.tidy.test_lua import header, sources
from tests.tidy.tree import ROOT

PAGE = ROOT / "docs" / "store.md"
SAID = {
    "KEYS": "keys",
    "ARGV": "arguments",
    "returns": "returns",
    "events": "events",
    "invariant": "keeps",
}


def told() -> dict[str, dict[str, str]]:
    """What the page says, by function: the items of the list below its name."""
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"\n(?=\*\*\w+\*\*: )", PAGE.read_text())[1:]:
        name = section[2:].partition("**")[0]
        items = re.findall(r"^- (\w+): (.*(?:\n  .*)*)", section, re.MULTILINE)
        found[name] = {item: " ".join(text.split()) for item, text in items}
    return found


def test_the_page_has_every_function() -> None:
    assert told().keys() == {source.stem for source in sources()}


@pytest.mark.parametrize("name", sorted(source.stem for source in sources()))
def test_the_page_says_what_the_head_of_the_function_says(name: str) -> None:
    head = next(header(source) for source in sources() if source.stem == name)
    expected = {said: head[field] for field, said in SAID.items()}
    assert told()[name] == expected, f"write it into {PAGE.name} as the head says it"
