"""The mapping to Web Push."""

import re
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from router.bridge import (
    ID_KEY,
    Authorization,
    BadAddress,
    Delivered,
    Misconfigured,
    Outcome,
    Recipient,
    Rejected,
    Request,
    Response,
    RetryAfter,
    Scope,
    TooLarge,
    Unregistered,
    Unsendable,
    dedupe_tag,
)
from router.bridges.webpush import BRIDGE, STATUSES, WebpushContent
from router.model.errors import PushError
from router.model.ids import DeviceId
from router.model.message import Priority
from router.model.push import Push
from router.policy.webpush_keys import from_base64, new_private_key, public_key
from tests.support.bridges import HOUR_MS, MESSAGE, NOW_MS, push
from tests.support.providers.webpush import Browser

SUBJECT = "mailto:ops@example.com"
KEY = new_private_key(b"k" * 32)
CREDENTIALS = BRIDGE.credentials({"private_key": KEY, "subject": SUBJECT})
AUTHORIZATION = Authorization("vapid x", 0, 0, 0)
BROWSER = Browser("id", "https://push.example:8443/send/id?x=1", public_key(KEY))
ADDRESS = BRIDGE.address({"type": "webpush", "subscription": BROWSER.to_json()})
ENTROPY = bytes(range(48))


def encoded(made: Push, now_ms: int = NOW_MS) -> Request:
    content = BRIDGE.content(made)
    assert isinstance(content, WebpushContent)
    to = Recipient(DeviceId("device-0123456789"), ADDRESS)
    return BRIDGE.encode(content, CREDENTIALS, to, AUTHORIZATION, now_ms, ENTROPY)


def headers(made: Push, now_ms: int = NOW_MS) -> dict[str, str]:
    return dict(encoded(made, now_ms).headers)


def payload(made: Push) -> Any:
    return orjson.loads(BROWSER.decrypt(encoded(made).body))


def test_a_request_is_what_rfc_8030_says() -> None:
    request = encoded(push(collapse_key="score"))
    assert request.method == "POST"
    assert (request.origin, request.path) == ("https://push.example:8443", "/send/id?x=1")
    assert dict(request.headers) == {
        "authorization": "vapid x",
        "content-encoding": "aes128gcm",
        "content-type": "application/octet-stream",
        "urgency": "normal",
        "ttl": "3600",
        "topic": "score",
    }


def test_only_the_browser_reads_the_payload() -> None:
    assert payload(push(data={"k": "v"})) == {
        ID_KEY: MESSAGE,
        "notification": {"title": "Title", "body": "Body", "tag": dedupe_tag(MESSAGE)},
        "data": {"k": "v"},
    }


def test_what_the_sender_gave_in_webpush_goes_first() -> None:
    own = {
        "notification": {"title": "Own", "icon": "i", "tag": "own", "actions": [{"action": "a"}]},
        "data": {"k": "own"},
        "fcm_options": {"link": "https://example.com", "analytics_label": "x"},
        "headers": {"TTL": "60", "Urgency": "very-low", "Topic": "own_topic"},
    }
    made = push(data={"k": "v"}, webpush=own)
    assert payload(made) == {
        ID_KEY: MESSAGE,
        "notification": {**own["notification"], "body": "Body"},  # type: ignore[dict-item]
        "data": {"k": "own"},
        "fcm_options": {"link": "https://example.com"},
    }
    sent = headers(made)
    assert (sent["ttl"], sent["urgency"], sent["topic"]) == ("60", "very-low", "own_topic")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TTL", "soon"),
        ("Urgency", "now"),
        ("Topic", "x" * 33),
        ("Topic", "two words"),
        ("Authorization", "x"),
        ("Content-Encoding", "aesgcm"),
    ],
)
def test_a_bad_header_of_the_sender_is_named(name: str, value: str) -> None:
    refused = BRIDGE.content(push(webpush={"headers": {name: value}}))
    assert isinstance(refused, Unsendable)
    assert [each.field for each in refused.violations] == [f"webpush.headers.{name}"]


@pytest.mark.parametrize(
    ("priority", "urgency"),
    [
        (Priority.CRITICAL, "high"),
        (Priority.HIGH, "high"),
        (Priority.NORMAL, "normal"),
        (Priority.LOW, "low"),
    ],
)
def test_priority_is_urgency(priority: Priority, urgency: str) -> None:
    assert headers(push(priority=priority))["urgency"] == urgency


def test_a_later_try_has_less_time_and_now_or_never_none() -> None:
    assert headers(push(), NOW_MS + 60_000)["ttl"] == "3540"
    assert headers(push(webpush={"headers": {"ttl": "100"}}), NOW_MS + 60_000)["ttl"] == "40"
    assert headers(push(ttl_ms=0))["ttl"] == "0"


@given(st.text(min_size=1, max_size=128))
def test_any_collapse_key_makes_a_topic_that_apple_takes(key: str) -> None:
    topic = headers(push(collapse_key=key))["topic"]
    assert re.fullmatch(r"[A-Za-z0-9-]{1,32}", topic)
    if topic != key:
        assert topic != headers(push(collapse_key=key + "x"))["topic"]


def test_without_a_collapse_key_nothing_is_replaced() -> None:
    assert "topic" not in headers(push())


def test_a_plaintext_has_its_limit() -> None:
    def sized(extra: int) -> Push:
        return push(data={"k": "v" * extra})

    first = BRIDGE.content(sized(1))
    assert isinstance(first, WebpushContent)
    room = 3993 - len(first.plain) + 1
    assert len(encoded(sized(room)).body) == 4096
    assert BRIDGE.content(sized(room + 1)) == TooLarge(3994, 3993)


@given(st.integers(NOW_MS, NOW_MS + 100 * HOUR_MS))
def test_an_authorization_is_for_one_origin_and_a_day_at_most(now_ms: int) -> None:
    audience = BRIDGE.audience(CREDENTIALS, ADDRESS)
    assert audience == "https://push.example:8443"
    made = BRIDGE.authorize(CREDENTIALS, audience, now_ms)
    found = re.fullmatch(r"vapid t=(\S+),k=(\S+)", made.value)
    assert found is not None
    assert found[2] == public_key(KEY)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), from_base64(found[2]))
    claims = jwt.decode(found[1], key, ["ES256"], audience=audience, options={"verify_exp": False})
    assert claims["sub"] == SUBJECT
    assert now_ms < made.renew_ms < claims["exp"] * 1000 == made.ends_ms <= now_ms + 24 * HOUR_MS
    assert BRIDGE.authorize(CREDENTIALS, audience, made.renew_ms - 1) == made
    assert BRIDGE.authorize(CREDENTIALS, "https://other", now_ms).value != made.value


def test_another_address_of_the_provider_changes_where_not_for_whom() -> None:
    raw = {"private_key": KEY, "subject": SUBJECT, "endpoint": "https://localhost:9"}
    elsewhere = BRIDGE.credentials(raw)
    content = BRIDGE.content(push())
    assert isinstance(content, WebpushContent)
    to = Recipient(DeviceId("d"), ADDRESS)
    request = BRIDGE.encode(content, elsewhere, to, AUTHORIZATION, NOW_MS, ENTROPY)
    assert request.origin == "https://localhost:9"
    assert BRIDGE.audience(elsewhere, ADDRESS) == "https://push.example:8443"


EXPECTED: dict[int, Outcome] = {
    401: BadAddress("401"),
    403: BadAddress("403"),
    404: Unregistered("404"),
    406: RetryAfter("406", scope=Scope.AUDIENCE),
    410: Unregistered("410"),
    413: Rejected("413"),
    429: RetryAfter("429", scope=Scope.DEVICE),
}


@pytest.mark.parametrize("status", EXPECTED)
def test_every_status_has_its_outcome(status: int) -> None:
    assert BRIDGE.read(Response(status, {}), NOW_MS) == EXPECTED[status]


def test_the_table_of_statuses_is_whole() -> None:
    assert STATUSES.keys() == EXPECTED.keys()


@pytest.mark.parametrize(
    ("status", "headers_of", "body", "outcome"),
    [
        (201, {"location": "https://push/m/1"}, b"", Delivered("https://push/m/1")),
        (202, {}, b"", Delivered("")),
        (429, {"retry-after": "30"}, b"", RetryAfter("429", 30.0, Scope.DEVICE)),
        (503, {"retry-after": "2"}, b"", RetryAfter("503", 2.0, Scope.AUDIENCE)),
        (403, {}, b'{"reason":"BadJwtToken"}', Misconfigured("BadJwtToken")),
        (403, {}, b'{"reason":"VapidPkHashMismatch"}', BadAddress("VapidPkHashMismatch")),
        (400, {}, b"<html>", Rejected("400")),
        (307, {"location": "https://elsewhere"}, b"", Rejected("307")),
    ],
)
def test_an_answer_that_says_more(
    status: int, headers_of: dict[str, str], body: bytes, outcome: Outcome
) -> None:
    assert BRIDGE.read(Response(status, headers_of, body), NOW_MS) == outcome


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("private_key", "short"),
        ("private_key", "A" * 43),
        ("subject", "ops@example.com"),
        ("subject", "mailto:root@localhost"),
        ("subject", "http://example.com"),
    ],
)
def test_a_bad_credential_is_named_with_what_is_accepted(field: str, value: str) -> None:
    with pytest.raises(PushError) as caught:
        BRIDGE.credentials({"private_key": KEY, "subject": SUBJECT, field: value})
    assert [each.field for each in caught.value.violations] == [field]
    assert CREDENTIALS.ACCEPTS[field] in caught.value.violations[0].description


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": "http://push.example/x"}, "endpoint"),
        ({"endpoint": "https://user@push.example/x"}, "endpoint"),
        ({"endpoint": "https:///x"}, "endpoint"),
        ({"endpoint": "https://push.example:99999/x"}, "endpoint"),
        ({"endpoint": "https://push.example/x#y"}, "endpoint"),
        ({"keys": {"p256dh": "AA", "auth": BROWSER.to_json()["keys"]["auth"]}}, "keys.p256dh"),
        ({"keys": {"p256dh": BROWSER.to_json()["keys"]["p256dh"], "auth": "AA"}}, "keys.auth"),
        ({"keys": 1}, "keys"),
    ],
)
def test_a_bad_subscription_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(PushError) as caught:
        BRIDGE.address({"type": "webpush", "subscription": {**BROWSER.to_json(), **change}})
    assert [each.field for each in caught.value.violations] == [f"bridge.subscription.{field}"]


def test_one_subscription_has_one_identity() -> None:
    assert ADDRESS.identity == BROWSER.endpoint


def test_no_request_shows_whether_the_key_is_good() -> None:
    assert BRIDGE.probe(CREDENTIALS, AUTHORIZATION, NOW_MS) is None
