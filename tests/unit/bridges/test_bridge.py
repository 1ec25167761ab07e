"""The interface of bridges, and what all of them keep to."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bridge import NOW_MS as MOMENT_MS
from router.bridge import (
    BadAddress,
    Delivered,
    Misconfigured,
    Outcome,
    Reauthorize,
    Rejected,
    Response,
    RetryAfter,
    Scope,
    Unregistered,
    by_status,
    push_deadline,
    retry_after_s,
)
from router.bridges import discover
from router.model.errors import PushError
from router.policy.webpush_keys import new_private_key
from tests.support.bridges import (
    APNS_TOKEN,
    FCM_TOKEN,
    NOW_MS,
    apns_credentials,
    fcm_credentials,
    push,
)
from tests.support.providers.webpush import Browser

OUTCOMES = (
    Delivered, Unregistered, BadAddress, RetryAfter, Reauthorize, Rejected, Misconfigured,
)  # fmt: skip
ADDRESSES: dict[str, Any] = {
    "apns": {"type": "apns", "token": APNS_TOKEN},
    "fcm": {"type": "fcm", "token": FCM_TOKEN},
    "webpush": {
        "type": "webpush",
        "subscription": Browser("i", "https://push.example/i", "").to_json(),
    },
}
CREDENTIALS: dict[str, Any] = {
    "apns": apns_credentials(),
    "fcm": fcm_credentials(),
    "webpush": {"private_key": new_private_key(b"k" * 32), "subject": "mailto:a@example.com"},
}
NAMES = sorted(ADDRESSES)
BRIDGES = discover()
ODD = [
    *(b"[]", b"{}", b'{"error":null}', b'{"error":{"details":[1]}}', b'{"reason":1}'),
    *(b'{"reason":"\xff"}', b'{"error":{"status":"\xff"}}', b'{"x":' + b"[" * 20_000),
]


@given(
    st.sampled_from(NAMES),
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["retry-after", "location", "apns-id"]), st.text()),
    st.binary() | st.sampled_from(ODD),
)
def test_no_answer_of_a_provider_is_too_odd_to_be_read(
    name: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome: Outcome = BRIDGES[name].read(Response(status, headers, body), NOW_MS)
    assert isinstance(outcome, OUTCOMES)
    assert isinstance(outcome, Delivered) == (status in {200, 201, 202} and not (
        name != "webpush" and status != 200))  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_credentials_and_addresses_come_back_from_their_stored_form(name: str) -> None:
    bridge = BRIDGES[name]
    credentials = bridge.credentials(CREDENTIALS[name])
    assert bridge.credentials(msgspec.to_builtins(credentials)) == credentials
    address = bridge.address(ADDRESSES[name])
    assert bridge.address(msgspec.to_builtins(address)) == address


@pytest.mark.parametrize("name", NAMES)
def test_credentials_show_no_secret(name: str) -> None:
    credentials = BRIDGES[name].credentials(CREDENTIALS[name])
    told = repr(credentials) + str(credentials.shown())
    assert "PRIVATE KEY" not in told
    assert new_private_key(b"k" * 32) not in told


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("field", "value", "accepts"),
    [
        ("endpoint", "ftp://x", "host[:port]"),
        ("endpoint", "https://x/path", "without a path"),
        ("ca", "nonsense", "PEM"),
        ("nonsense", 1, "accepted are"),
    ],
)
def test_a_bad_credential_is_named(name: str, field: str, value: object, accepts: str) -> None:
    with pytest.raises(PushError) as caught:
        BRIDGES[name].credentials({**CREDENTIALS[name], field: value})
    (violation,) = caught.value.violations
    assert violation.field == field
    assert accepts in violation.description


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("raw", [None, 1, "x", [], {}, {"type": "other"}])
def test_what_is_no_address_is_refused_below_bridge(name: str, raw: object) -> None:
    with pytest.raises(PushError) as caught:
        BRIDGES[name].address(raw)
    assert all(each.field.startswith("bridge") for each in caught.value.violations)


@pytest.mark.parametrize("name", NAMES)
def test_a_stranger_in_an_address_is_refused(name: str) -> None:
    with pytest.raises(PushError, match=r"bridge\.extra"):
        BRIDGES[name].address({**ADDRESSES[name], "extra": 1})


@pytest.mark.parametrize(
    ("since_ms", "registered_ms", "concerns"),
    [(0, 9, True), (5, 4, True), (5, 5, False), (5, 9, False)],
)
def test_an_address_that_was_registered_since_is_not_dead(
    since_ms: int, registered_ms: int, concerns: bool
) -> None:
    assert Unregistered("gone", since_ms).concerns(registered_ms) is concerns


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, Reauthorize("401 why")),
        (403, Misconfigured("403 why")),
        (429, RetryAfter("429 why", scope=Scope.AUDIENCE)),
        (500, RetryAfter("500 why", scope=Scope.AUDIENCE)),
        (418, Rejected("418 why")),
        (301, Rejected("301 why")),
    ],
)
def test_a_status_alone(status: int, expected: Outcome) -> None:
    assert by_status(status, "why") == expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), ("Thu, 01 Jan 1970 00:00:07 GMT", 6.0), ("x", 0.0), ("", 0.0)],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_s(Response(503, {"retry-after": header}), 1000) == seconds


def test_a_request_ends_with_its_message_and_now_lasts_a_moment() -> None:
    assert push_deadline(push(), NOW_MS) == push().expires_ms
    assert push_deadline(push(ttl_ms=0), NOW_MS + 7) == NOW_MS + 7 + MOMENT_MS
