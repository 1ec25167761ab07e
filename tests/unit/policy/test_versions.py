"""Ranges of versions: rules one by one, and the order against tuples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.versions import MAX_RANGE_CHARS, RangeError, parse_range, parse_version

numbers = st.lists(st.integers(0, 3), min_size=3, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("wanted", "matching", "others"),
    [
        (">=2.3.0 <3", ["2.3.0", "2.3", "v2.10.1", "2.99.0.7"], ["2.2.9", "3.0.0", "3.0.0-beta"]),
        ("<3.0.0", ["3.0.0-beta", "2"], ["3", "3.0.0.1"]),
        (">2.3", ["2.4.0", "3"], ["2.3.9", "2.3", "2"]),
        ("<=2.3", ["2.3.9", "1"], ["2.4"]),
        ("2.3", ["2.3.0", "2.3.9-rc.1"], ["2.4", "2"]),
        ("=2.3.1", ["2.3.1", "2.3.1+build.5", "2.3.1 (4512)"], ["2.3.1-rc.1", "2.3.1.1"]),
        ("!=2", ["1", "3"], ["2.1"]),
        ("^1.2.3", ["1.2.3", "1.9"], ["1.2.2", "2.0.0-beta", "2"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "1.2.3"]),
        ("^0", ["0.9"], ["1"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.3", "1.2.2"]),
        ("~1", ["1.0", "1.9"], ["2"]),
        ("<2 || >=3, <4", ["1.9", "3.5"], ["2.5", "4"]),
        (">=1.0.0-beta.2", ["1.0.0-beta.11", "1.0.0-rc", "1.0.0"], ["1.0.0-beta.1", "1.0.0-alpha"]),
        ("> = 1".replace(" ", ""), ["1"], ["0.9"]),
        (">= 1 <2", ["1.5"], ["2"]),
    ],
)
def test_a_range_takes_versions(wanted: str, matching: list[str], others: list[str]) -> None:
    parsed = parse_range(wanted)
    assert [text for text in (*matching, *others) if parsed.matches(text)] == matching


@pytest.mark.parametrize("text", ["", "beta", "1.2.3.4.5", "1..2", "-1", "1.2-"])
def test_what_is_no_version_lies_in_no_range(text: str) -> None:
    assert parse_version(text) is None
    assert not parse_range(">=0").matches(text)


@pytest.mark.parametrize(
    "text", ["", " ", ">=", "x", "1 ||", "|| 1", ">= foo", ">=1 | 2", "1.2.3.4.5", "=>1", "1 2x"]
)
def test_what_is_no_range_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(RangeError, match=r"such as >=2\.3\.0 <3"):
        parse_range(text)


def test_a_range_has_a_bound() -> None:
    with pytest.raises(RangeError, match="at most 256 characters"):
        parse_range("1" * (MAX_RANGE_CHARS + 1))


@given(numbers, numbers)
def test_full_versions_have_the_order_of_their_numbers(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    text, bound = ".".join(map(str, one)), ".".join(map(str, other))
    long, long_bound = (*one, 0)[:4], (*other, 0)[:4]
    assert parse_range(f">={bound}").matches(text) == (long >= long_bound)
    assert parse_range(f">{bound}").matches(text) == (long > long_bound)
    assert parse_range(f"<{bound}").matches(text) == (long < long_bound)
    assert parse_range(f"<={bound}").matches(text) == (long <= long_bound)
    assert parse_range(f"={bound}").matches(text) == (long == long_bound)
    assert parse_range(f"!={bound}").matches(text) == (long != long_bound)


@given(st.text(max_size=40))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    try:
        parsed = parse_range(text)
    except RangeError:
        return
    assert parsed.matches("1.2.3") in {True, False}
    parse_version(text)
