"""Versions of apps, and ranges of them such as `>=2.3.0 <3 || ^4.1`. Pure.

Apps call themselves `2.3`, `v2.3.0-beta.1`, `4.12.0.7` or `2.3.0 (4512)`: more than Semantic
Versioning knows. Order is that of SemVer 2.0.0, section 11, for one to four numbers. A bound with
fewer numbers stands for all versions that begin with it, as in npm: `<3` leaves 3.0.0-beta out.
"""

import functools
import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import msgspec

MAX_RANGE_CHARS: Final = 256
_MAX_PARTS: Final = 4
_MIN_FULL: Final = 3
"""A bound of so many numbers names one version; with fewer it stands for many."""

_VERSION: Final = re.compile(
    r"[vV]?(?P<numbers>[0-9]{1,15}(?:\.[0-9]{1,15}){0,3})"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]*)?"
)
_COMPARATOR: Final = re.compile(r"\s*,?\s*(>=|<=|>|<|=|!=|\^|~)?\s*([^\s,|<>=!^~]+)")
_ACCEPTED: Final = "versions with >=, >, <, <=, =, !=, ^ or ~ before them, such as >=2.3.0 <3"

_Key = tuple[tuple[int, int, str], ...]
_Ordered = TypeVar("_Ordered", tuple[int, ...], _Key)


class RangeError(ValueError):
    """A text is no range of versions; says what is accepted."""


class Version(NamedTuple):
    """A version: one to four numbers, and what follows a hyphen."""

    numbers: tuple[int, ...]
    pre: _Key = ()
    """Of a pre-release, in the order of SemVer; empty for a release."""


class _Bound(NamedTuple):
    holds: Callable[[Version, Version], bool]
    version: Version


class VersionRange(msgspec.Struct, frozen=True):
    """Rows of bounds: one row must hold as a whole."""

    rows: tuple[tuple[_Bound, ...], ...]

    def matches(self, text: str) -> bool:
        """Tell whether a version lies in the range; what is no version lies in none."""
        version = parse_version(text)
        if version is None:
            return False
        return any(all(one.holds(version, one.version) for one in row) for row in self.rows)


@functools.lru_cache(maxsize=4096)
def parse_version(text: str) -> Version | None:
    """Read what an app calls itself; what follows a space is taken for a build number."""
    word = text.strip().partition(" ")[0]
    found = _VERSION.fullmatch(word)
    if found is None:
        return None
    numbers = tuple(int(number) for number in found["numbers"].split("."))
    return Version(numbers, _key(found["pre"]) if found["pre"] else ())


def parse_range(text: str) -> VersionRange:
    """Read a range: bounds after one another must all hold, `||` parts alternatives.

    Raises:
        RangeError: the text is none.
    """
    if len(text) > MAX_RANGE_CHARS:
        raise RangeError(f"takes at most {MAX_RANGE_CHARS} characters")
    return VersionRange(tuple(_row(row) for row in text.split("||")))


def _row(text: str) -> tuple[_Bound, ...]:
    bounds: list[_Bound] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _COMPARATOR.match(text, at, end)
        version = parse_version(match[2]) if match is not None else None
        if match is None or version is None:
            raise RangeError(f"takes {_ACCEPTED}; {text[at:end].strip()[:40]!r} is none")
        bounds.append(_Bound(_OPERATORS[match[1] or "="], version))
        at = match.end()
    if not bounds:
        raise RangeError(f"takes {_ACCEPTED}; a part of it is empty")
    return tuple(bounds)


def _key(pre: str) -> _Key:
    # Numbers come before words, and are compared as numbers.
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split("."))


def compare(version: Version, bound: Version) -> int:
    """Give -1, 0 or 1 as a version lies before, in or behind a bound."""
    wanted = len(bound.numbers)
    if wanted < _MIN_FULL and not bound.pre:
        return _sign(_padded(version)[:wanted], bound.numbers)
    numbers = _sign(_padded(version), _padded(bound))
    if numbers or version.pre == bound.pre:
        return numbers
    if not version.pre or not bound.pre:
        return -1 if version.pre else 1
    return _sign(version.pre, bound.pre)


def _padded(version: Version) -> tuple[int, ...]:
    return version.numbers + (0,) * (_MAX_PARTS - len(version.numbers))


def _sign(one: _Ordered, other: _Ordered) -> int:
    return (one > other) - (one < other)


def _caret(version: Version, bound: Version) -> bool:
    """From the bound on, with the same numbers up to the first that is not 0."""
    numbers = bound.numbers
    first = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
    return _from(version, bound, first + 1)


def _tilde(version: Version, bound: Version) -> bool:
    """From the bound on, with the same first two numbers."""
    return _from(version, bound, min(len(bound.numbers), 2))


def _from(version: Version, bound: Version, same: int) -> bool:
    begins = _padded(version)[:same] == bound.numbers[:same]
    return begins and compare(version, bound) >= 0


_OPERATORS: Final[dict[str, Callable[[Version, Version], bool]]] = {
    ">=": lambda version, bound: compare(version, bound) >= 0,
    ">": lambda version, bound: compare(version, bound) > 0,
    "<": lambda version, bound: compare(version, bound) < 0,
    "<=": lambda version, bound: compare(version, bound) <= 0,
    "=": lambda version, bound: compare(version, bound) == 0,
    "!=": lambda version, bound: compare(version, bound) != 0,
    "^": _caret,
    "~": _tilde,
}
