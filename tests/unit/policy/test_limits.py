"""Limits: exactly at the edge is accepted, one beyond is refused with what is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy import limits

_DAY_MS = 24 * 3600 * 1000


def test_a_payload_of_4096_bytes_is_taken_and_one_more_is_not() -> None:
    assert limits.payload_violation(4096) is None
    violation = limits.payload_violation(4097)
    assert violation is not None
    assert "4097" in violation.description


def test_28_days_ahead_is_taken_and_a_millisecond_more_is_not() -> None:
    assert limits.schedule_violation(None, 5) is None
    assert limits.schedule_violation(0, 5) is None
    assert limits.schedule_violation(5 + 28 * _DAY_MS, 5) is None
    assert limits.schedule_violation(6 + 28 * _DAY_MS, 5) is not None


@pytest.mark.parametrize("platform", ["a", "android", "web-push_2", "x" * 32])
def test_a_platform_is_taken(platform: str) -> None:
    assert limits.platform_violation(platform) is None


@pytest.mark.parametrize("platform", ["", "Android", "x" * 33, "a b", "a\n"])
def test_what_is_no_platform_is_refused(platform: str) -> None:
    assert limits.platform_violation(platform) is not None


@pytest.mark.parametrize("language", ["", "de", "pt-BR", "zh-Hant-TW", "de_DE", "de-CH-1901"])
def test_a_language_is_taken(language: str) -> None:
    assert limits.language_violation(language) is None


@pytest.mark.parametrize("language", ["d", "de-", "-de", "123", "de de", "toolonglanguage"])
def test_what_is_no_language_is_refused(language: str) -> None:
    assert limits.language_violation(language) is not None


def test_a_region_and_a_version_have_their_forms() -> None:
    assert limits.region_violation("") is None
    assert limits.region_violation("us-east") is None
    assert limits.region_violation("a b") is not None
    assert limits.app_version_violation("1.2.3 (beta)") is None
    assert limits.app_version_violation("x" * 65) is not None
    assert limits.app_version_violation("1\x00") is not None
    assert limits.user_violation("user-1@example.org") is None
    assert limits.user_violation("u" * 129) is not None
    assert limits.user_violation("\ud800") is not None


def test_attributes_at_their_limits_are_taken() -> None:
    attributes = {f"{number:064}": "v" * 256 for number in range(64)}
    assert limits.attribute_violations(attributes) == []


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({str(number): "" for number in range(65)}, "attributes"),
        ({"": "v"}, "attributes"),
        ({"k" * 65: "v"}, "attributes"),
        ({"\ud800": "v"}, "attributes"),
        ({"k": "v" * 257}, "attributes.k"),
        ({"k": "\udfff"}, "attributes.k"),
    ],
)
def test_attributes_beyond_a_limit_are_refused(attributes: dict[str, str], field: str) -> None:
    assert [violation.field for violation in limits.attribute_violations(attributes)] == [field]


@given(st.dictionaries(st.text(), st.text()))
def test_every_violation_says_what_is_accepted(attributes: dict[str, str]) -> None:
    for violation in limits.attribute_violations(attributes):
        assert violation.field
        assert violation.description
