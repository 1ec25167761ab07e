"""Every path that a page names exists."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.tidy.tree import ROOT, name_of, pages, texts

_LINK: Final = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
_TOP: Final = r"(?:gateway|router|sdk_client|loadtest|tests|docs|deploy|\.ci)/[\w.{},*/-]*[\w}*/]"
_NAMED: Final = re.compile(rf"(?<![\w./:}}-])({_TOP})")
_PAGE: Final = re.compile(r"(?<![\w./-])docs/[\w/.-]+\.md")


def is_there(name: str) -> bool:
    """Whether a path, a module without its suffix, a pattern or an alternative `{a,b}` exists."""
    if "{" in name:
        before, _, rest = name.partition("{")
        inside, _, after = rest.partition("}")
        return all(is_there(before + part.strip() + after) for part in inside.split(","))
    if "*" in name:
        return any(ROOT.glob(name))
    path = ROOT / name
    return path.exists() or any(path.with_name(path.name + end).exists() for end in (".py", ".lua"))


def code_of(text: str) -> list[str]:
    """What stands in backticks: there, a path is meant as one."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"(?s)```.*?```", "", text))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = {link for link in _LINK.findall(pages()[page]) if "://" not in link}
    broken = [
        link
        for link in links
        if not link.startswith("mailto:") and not (page.parent / link).exists()
    ]
    assert not broken


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    named = {found for code in code_of(pages()[page]) for found in _NAMED.findall(code)}
    assert not sorted(name for name in named if not is_there(name))


def test_pages_that_any_file_names_exist() -> None:
    missing = {
        f"{name_of(path)}: {found}"
        for path, text in texts()
        for found in _PAGE.findall(text)
        if not (ROOT / found).exists()
    }
    assert not sorted(missing)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("router/model", True),
        ("router/model/ids", True),
        ("router/model/{ids,errors}.py", True),
        ("router/model/{ids,none}.py", False),
        ("tests/*/__init__.py", True),
        ("router/utils.py", False),
    ],
)
def test_is_there(name: str, there: bool) -> None:
    assert is_there(name) is there
