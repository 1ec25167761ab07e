"""Reading the fields of credentials and addresses."""

from typing import ClassVar

import msgspec
import pytest

from router.model.errors import ErrorCode, PushError
from router.policy.bridge_fields import COMMON, common_faults, parsed, refuse


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    key: str


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    ACCEPTS: ClassVar[dict[str, str]] = {"inner.key": "a key", "number": "a number", "inner": "it"}

    inner: Inner
    number: int = 0


@pytest.mark.parametrize(
    ("raw", "field", "says"),
    [
        ({"inner": {"key": 5}}, "bridge.inner.key", "must be a key"),
        ({"inner": {}}, "bridge.inner.key", "is required: a key"),
        ({}, "bridge.inner", "is required: it"),
        ({"inner": {"key": "a"}, "number": "hunter2"}, "bridge.number", "must be a number"),
        (
            {"inner": {"key": "a"}, "x": 1},
            "bridge.x",
            "is not known; accepted are inner, inner.key, number",
        ),
        ("hunter2", "bridge", "must be an object of JSON"),
    ],
)
def test_a_bad_field_is_named_and_its_value_is_not(raw: object, field: str, says: str) -> None:
    with pytest.raises(PushError) as caught:
        parsed(Outer, raw, "bridge")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert [(each.field, each.description) for each in caught.value.violations] == [(field, says)]
    assert caught.value.__cause__ is None
    assert "hunter2" not in caught.value.message


def test_what_fits_is_made() -> None:
    assert parsed(Outer, {"inner": {"key": "a"}}, "") == Outer(Inner("a"))


def test_all_faults_are_told_at_once() -> None:
    error = refuse("", common_faults("ftp://x", "no certificate"))
    assert [each.field for each in error.violations] == ["endpoint", "ca"]
    assert error.message == f"endpoint: {COMMON['endpoint']}; ca: {COMMON['ca']}"


@pytest.mark.parametrize("endpoint", ["", "https://api.example:2197", "http://[::1]:80"])
def test_another_address_of_a_provider(endpoint: str) -> None:
    assert common_faults(endpoint, "") == []


@pytest.mark.parametrize(
    "endpoint",
    [
        *("https://a/", "https://u@a", "a", "https://a?x", "https://"),
        *("https://a:99999", "https://:443", "http://[", "http://[::1", "http://a:b"),
    ],
)
def test_what_is_no_address_of_a_provider(endpoint: str) -> None:
    assert [field for field, _ in common_faults(endpoint, "")] == ["endpoint"]
