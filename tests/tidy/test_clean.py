"""Nothing of the machine where a file was written gets into the repository."""

import re
from typing import Final

import pytest

from tests.tidy.tree import name_of, texts

# Written so that this file does not match itself.
FOREIGN: Final = {
    "a directory of somebody's machine": r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/",
    "an option that names a package index": r"(?m)^\s*--(?:extra-)?index-ur[l]|--trusted-hos[t]",
    "the address of a package index": r"https?://[^\s\"'`)]+/simpl[e]\b|pythonhoste[d]\.org",
    "a private key": r"-----BEGIN (?:RSA |EC )?PRIVATE KE[Y]-----\n[A-Za-z0-9+/=\n]{200}",
    "a mark of an unfinished merge": r"(?m)^(?:<{7}|>{7}) ",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FOREIGN[what])
    found = [
        f"{name_of(path)}: {match.group()[:80]}"
        for path, text in texts()
        for match in pattern.finditer(text)
    ]
    assert not found


@pytest.mark.parametrize(
    "parts",
    [
        ("in /wor", "k/main"),
        ("/hom", "e/me/x"),
        ("--index-ur", "l=x"),
        ("https://mirror/simpl", "e/"),
    ],
)
def test_each_pattern_finds_its_kind(parts: tuple[str, ...]) -> None:
    assert any(re.search(pattern, "".join(parts)) for pattern in FOREIGN.values())
