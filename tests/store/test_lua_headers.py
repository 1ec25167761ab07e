"""Each function's file begins with the header that docs and readers rely on."""

import re
from pathlib import Path

import pytest

import router.store
from router.store.library import Library

FILES = sorted(
    path
    for path in (Path(router.store.__path__[0]) / "lua").glob("*.lua")
    if not path.name.startswith("prelude")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_function_has_a_header(path: Path) -> None:
    text = path.read_text("utf-8")
    for word in ("KEYS", "ARGV", "returns", "events", "invariant"):
        assert re.search(rf"^-- {word}: \S", text, re.MULTILINE), word
    assert len(text.splitlines()) <= 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_function_takes_the_keys_and_arguments_of_its_header(path: Path) -> None:
    text = path.read_text("utf-8")
    for word, table in (("KEYS", "keys"), ("ARGV", "args")):
        header = re.search(rf"^-- {word}: (.*)$", text, re.MULTILINE)
        pattern = rf"^local ([\w,\s]+?) =\s+unpack\({table}(, 1, \d+)?\)$"
        taken = re.search(pattern, text, re.MULTILINE)
        assert header is not None
        if taken is None:
            continue
        names = re.sub(r"\(.*|[\[\]…]|status…", "", header[1]).split()
        assert re.split(r",\s*", taken[1]) == names


def test_the_library_knows_every_file() -> None:
    library = Library()
    assert library.functions == {path.stem for path in FILES}
    assert library.function("enqueue") == f"enqueue_{library.digest}"
    with pytest.raises(LookupError):
        library.function("nothing")
