"""The mapping to FCM."""

from typing import Any

import orjson
import pytest

from router.bridge import (
    ID_KEY,
    Authorization,
    BadAddress,
    Delivered,
    Misconfigured,
    Outcome,
    Reauthorize,
    Recipient,
    Rejected,
    Request,
    Response,
    RetryAfter,
    Scope,
    TooLarge,
    Unregistered,
    dedupe_tag,
)
from router.bridges.fcm import BRIDGE, CODES, FcmContent
from router.model.errors import PushError
from router.model.ids import DeviceId
from router.model.message import Notification, Priority
from router.model.push import Push
from tests.support.bridges import FCM_TOKEN, HOUR_MS, MESSAGE, NOW_MS, fcm_credentials, push
from tests.support.providers.fcm import STATUS_OF

CREDENTIALS = BRIDGE.credentials(fcm_credentials())
AUTHORIZATION = Authorization("Bearer x", 0, 0, 0)
TO = Recipient(DeviceId("device-0123456789"), BRIDGE.address({"type": "fcm", "token": FCM_TOKEN}))


def encoded(made: Push, now_ms: int = NOW_MS) -> Request:
    content = BRIDGE.content(made)
    assert isinstance(content, FcmContent)
    return BRIDGE.encode(content, CREDENTIALS, TO, AUTHORIZATION, now_ms)


def message(made: Push, now_ms: int = NOW_MS) -> Any:
    return orjson.loads(encoded(made, now_ms).body)["message"]


def answered(status: int, error: dict[str, Any], **headers: str) -> Outcome:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return BRIDGE.read(Response(status, named, orjson.dumps({"error": error})), NOW_MS)


def test_a_request_is_what_firebase_documents() -> None:
    request = encoded(push())
    assert request.method == "POST"
    assert request.origin == "https://fcm.googleapis.com"
    assert request.path == "/v1/projects/firebase-demo/messages:send"
    assert dict(request.headers) == {
        "authorization": "Bearer x",
        "content-type": "application/json",
    }


def test_a_message_carries_everything_and_the_message_id() -> None:
    made = push(
        data={"k": "v"}, collapse_key="score", priority=Priority.HIGH, label="spring",
        notification=Notification("T", "B", "https://x/i.png"),
    )  # fmt: skip
    assert message(made) == {
        "token": FCM_TOKEN,
        "data": {"k": "v", ID_KEY: MESSAGE},
        "notification": {"title": "T", "body": "B", "image": "https://x/i.png"},
        "android": {
            "priority": "HIGH",
            "collapse_key": "score",
            "ttl": "3600s",
            "notification": {"tag": dedupe_tag(MESSAGE)},
        },
        "apns": {
            "headers": {
                "apns-expiration": str((NOW_MS + HOUR_MS) // 1000),
                "apns-collapse-id": "score",
            }
        },
        "webpush": {"headers": {"TTL": "3600"}},
        "fcm_options": {"analytics_label": "spring"},
    }


def test_overrides_of_all_platforms_are_taken_over_as_they_are() -> None:
    android = {
        "priority": "normal",
        "collapse_key": "own",
        "restricted_package_name": "com.example",
        "direct_boot_ok": True,
        "notification": {"tag": "own", "channel_id": "c", "color": "#112233"},
    }
    apns = {
        "headers": {"apns-priority": "5", "apns-expiration": "7"},
        "payload": {"aps": {"badge": 1}},
        "fcm_options": {"analytics_label": "a"},
    }
    webpush = {
        "headers": {"Urgency": "high"},
        "notification": {"icon": "i"},
        "fcm_options": {"link": "https://x"},
    }
    made = message(push(priority=Priority.HIGH, android=android, apns=apns, webpush=webpush))
    assert made["android"] == {**android, "ttl": "3600s"}
    assert made["apns"] == apns
    assert made["webpush"] == {**webpush, "headers": {"Urgency": "high", "TTL": "3600"}}


def test_data_that_a_platform_overrides_carries_the_message_id_too() -> None:
    own = {"data": {"k": "own"}}
    made = message(push(data={"k": "v"}, android=own, webpush=own))
    for part in (made["android"], made["webpush"]):
        assert part["data"] == {"k": "own", ID_KEY: MESSAGE}


@pytest.mark.parametrize(
    ("priority", "word"),
    [
        (Priority.CRITICAL, "HIGH"),
        (Priority.HIGH, "HIGH"),
        (Priority.NORMAL, None),
        (Priority.LOW, "NORMAL"),
    ],
)
def test_a_priority_nobody_asked_for_is_left_to_fcm(priority: Priority, word: str | None) -> None:
    assert message(push(priority=priority))["android"].get("priority") == word


def test_a_later_try_has_less_time() -> None:
    later = message(push(), NOW_MS + 60_000)
    assert later["android"]["ttl"] == "3540s"
    assert later["webpush"]["headers"]["TTL"] == "3540"


@pytest.mark.parametrize(
    ("android", "web", "after_ms", "ttl", "web_ttl"),
    [
        ("60s", "30", 0, "60s", "30"),
        ("60s", "30", 20_000, "40s", "10"),
        ("60s", "30", 90_000, "0s", "0"),
        ("1.5s", "x", 0, "2s", "3600"),
        ("9999s", "9999", 0, "3600s", "3600"),
    ],
)
def test_the_shorter_time_counts(
    android: str, web: str, after_ms: int, ttl: str, web_ttl: str
) -> None:
    own = push(android={"ttl": android}, webpush={"headers": {"ttl": web}})
    made = message(own, NOW_MS + after_ms)
    assert made["android"]["ttl"] == ttl
    assert made["webpush"]["headers"] == {"TTL": web_ttl}


def test_now_or_never_is_not_stored_by_firebase() -> None:
    made = message(push(ttl_ms=0))
    assert made["android"]["ttl"] == "0s"
    assert made["apns"]["headers"]["apns-expiration"] == "0"
    assert made["webpush"]["headers"]["TTL"] == "0"


def test_a_quiet_message_shows_nothing() -> None:
    made = message(push(notification=None, data={"k": "v"}))
    assert "notification" not in made
    assert "notification" not in made["android"]


def test_a_payload_has_its_limit() -> None:
    found = BRIDGE.content(push(notification=None, data={"k": "v" * 4100}))
    assert isinstance(found, TooLarge)
    assert (found.size > 4096, found.limit) == (True, 4096)


EXPECTED: dict[str, Outcome] = {
    "INVALID_ARGUMENT": Rejected("INVALID_ARGUMENT"),
    "THIRD_PARTY_AUTH_ERROR": Misconfigured("THIRD_PARTY_AUTH_ERROR", suspend=False),
    "SENDER_ID_MISMATCH": BadAddress("SENDER_ID_MISMATCH"),
    "UNREGISTERED": Unregistered("UNREGISTERED"),
    "QUOTA_EXCEEDED": RetryAfter("QUOTA_EXCEEDED", 60.0, Scope.AUDIENCE),
    "INTERNAL": RetryAfter("INTERNAL"),
    "UNAVAILABLE": RetryAfter("UNAVAILABLE", scope=Scope.AUDIENCE),
}


@pytest.mark.parametrize("code", STATUS_OF)
def test_every_documented_code_has_its_outcome(code: str) -> None:
    status, name = STATUS_OF[code]
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    said = {"status": name, "message": "m", "details": [{"@type": kind, "errorCode": code}]}
    assert answered(status, said) == EXPECTED[code]


def test_the_table_knows_the_documented_codes_and_no_other() -> None:
    assert CODES.keys() == STATUS_OF.keys() == EXPECTED.keys()


@pytest.mark.parametrize(
    ("status", "name", "outcome"),
    [
        (400, "INVALID_ARGUMENT", Rejected("INVALID_ARGUMENT")),
        (401, "UNAUTHENTICATED", Reauthorize("UNAUTHENTICATED")),
        (403, "PERMISSION_DENIED", Misconfigured("PERMISSION_DENIED")),
        (404, "NOT_FOUND", Misconfigured("NOT_FOUND")),
        (429, "RESOURCE_EXHAUSTED", RetryAfter("QUOTA_EXCEEDED", 60.0, Scope.AUDIENCE)),
        (500, "INTERNAL", RetryAfter("INTERNAL")),
        (503, "UNAVAILABLE", RetryAfter("UNAVAILABLE", scope=Scope.AUDIENCE)),
        (504, "DEADLINE_EXCEEDED", RetryAfter("DEADLINE_EXCEEDED")),
        (502, "", RetryAfter("502", scope=Scope.AUDIENCE)),
        (401, "", Reauthorize("401")),
    ],
)
def test_what_googles_front_says(status: int, name: str, outcome: Outcome) -> None:
    assert answered(status, {"status": name}) == outcome


def test_retry_after_is_heeded() -> None:
    outcome = answered(429, {"status": "RESOURCE_EXHAUSTED"}, retry_after="9")
    assert outcome == RetryAfter("QUOTA_EXCEEDED", 9.0, Scope.AUDIENCE)


def test_the_quota_of_a_device_holds_that_device_alone() -> None:
    said = {"status": "RESOURCE_EXHAUSTED", "message": "Device message rate exceeded."}
    assert answered(429, said) == RetryAfter("QUOTA_EXCEEDED", 60.0, Scope.DEVICE)


def test_a_token_that_is_none_is_not_the_messages_fault() -> None:
    violations = [{"field": "message.token", "description": "not a valid token"}]
    details = [{"errorCode": "INVALID_ARGUMENT"}, {"fieldViolations": violations}]
    said = {"status": "INVALID_ARGUMENT", "details": details}
    assert answered(400, said) == BadAddress("INVALID_ARGUMENT")


def test_what_was_taken_has_a_name() -> None:
    body = b'{"name":"projects/p/messages/0:1"}'
    assert BRIDGE.read(Response(200, {}, body), NOW_MS) == Delivered("projects/p/messages/0:1")


def test_a_token_is_asked_for_at_the_accounts_own_address() -> None:
    account = BRIDGE.credentials(fcm_credentials("http://localhost:1/a?b=c"))
    request = BRIDGE.authorize(account, "", NOW_MS)
    assert (request.origin, request.path) == ("http://localhost:1", "/a?b=c")
    assert dict(request.headers)["content-type"] == "application/x-www-form-urlencoded"


def test_a_token_is_renewed_ahead_of_its_end() -> None:
    granted = Response(200, {}, b'{"access_token":"t","expires_in":3600}')
    assert BRIDGE.granted(granted, NOW_MS) == Authorization(
        "Bearer t", NOW_MS, NOW_MS + 3_000_000, NOW_MS + HOUR_MS
    )


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, b'{"error":"invalid_grant"}', Misconfigured("400 invalid_grant")),
        (401, b'{"error":"invalid_client"}', Misconfigured("401 invalid_client")),
        (503, b"<html>", RetryAfter("503", 3.0, Scope.AUDIENCE)),
        (200, b"{}", RetryAfter("200", 3.0, Scope.AUDIENCE)),
    ],
)
def test_a_grant_may_be_refused(status: int, body: bytes, outcome: Outcome) -> None:
    assert BRIDGE.granted(Response(status, {"retry-after": "3"}, body), NOW_MS) == outcome


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("private_key", "no PEM"),
        ("project_id", ""),
        ("client_email", "two words"),
        ("token_uri", "ftp://x"),
    ],
)
def test_a_bad_field_of_the_account_is_named(field: str, value: str) -> None:
    raw = fcm_credentials()
    raw["service_account"][field] = value
    with pytest.raises(PushError) as caught:
        BRIDGE.credentials(raw)
    (violation,) = caught.value.violations
    assert violation.field == f"service_account.{field}"
    assert CREDENTIALS.ACCEPTS[violation.field] in violation.description


def test_a_missing_field_is_named() -> None:
    with pytest.raises(PushError, match=r"service_account: is required"):
        BRIDGE.credentials({})
    with pytest.raises(PushError, match=r"service_account\.project_id: is required"):
        BRIDGE.credentials({"service_account": {}})


@pytest.mark.parametrize("token", ["", "short", "with space in the middle", "a" * 5000])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(PushError, match=r"bridge\.token"):
        BRIDGE.address({"type": "fcm", "token": token})


def test_a_probe_is_a_dry_run() -> None:
    request = BRIDGE.probe(CREDENTIALS, AUTHORIZATION, NOW_MS)
    assert orjson.loads(request.body)["validate_only"] is True
