"""The mapping to APNs."""

import re
from typing import Any

import jwt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Unsendable,
)
from router.bridges.apns import BRIDGE, REASONS, SUFFIXES, ApnsContent
from router.model.errors import PushError
from router.model.ids import DeviceId
from router.model.message import Notification, Priority
from router.model.push import Push, push_uuid
from tests.support.bridges import (
    APNS_TOKEN,
    HOUR_MS,
    MESSAGE,
    NOW_MS,
    apns_credentials,
    ec_key,
    push,
)
from tests.support.providers.apns import STATUS_OF

DEVICE = DeviceId("device-0123456789")
AUTHORIZATION = Authorization("bearer x", 0, 0, 0)
CREDENTIALS = BRIDGE.credentials(apns_credentials())


def content(made: Push) -> ApnsContent:
    found = BRIDGE.content(made)
    assert isinstance(found, ApnsContent)
    return found


def encoded(made: Push, address: dict[str, Any] | None = None) -> Request:
    known = BRIDGE.address({"type": "apns", "token": APNS_TOKEN, **(address or {})})
    to = Recipient(DEVICE, known)
    return BRIDGE.encode(content(made), CREDENTIALS, to, AUTHORIZATION, NOW_MS)


def payload(made: Push) -> Any:
    return orjson.loads(content(made).body)


def headers(made: Push, address: dict[str, Any] | None = None) -> dict[str, str]:
    return dict(encoded(made, address).headers)


def test_a_request_is_what_apple_documents() -> None:
    request = encoded(push(collapse_key="score"))
    assert request.method == "POST"
    assert request.origin == "https://api.push.apple.com"
    assert request.path == f"/3/device/{APNS_TOKEN}"
    assert dict(request.headers) == {
        "authorization": "bearer x",
        "apns-topic": "com.example.app",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str((NOW_MS + HOUR_MS) // 1000),
        "apns-collapse-id": "score",
        "apns-id": request.id,
    }
    assert request.deadline_ms == NOW_MS + HOUR_MS


def test_the_id_is_that_of_message_and_device() -> None:
    assert encoded(push()).id == push_uuid(MESSAGE, DEVICE)


def test_a_payload_shows_the_notification_and_carries_data_and_message_id() -> None:
    assert payload(push(data={"k": "v"})) == {
        "aps": {"alert": {"title": "Title", "body": "Body"}},
        "k": "v",
        ID_KEY: MESSAGE,
    }


def test_data_alone_wakes_the_app_in_the_background() -> None:
    quiet = push(notification=None, data={"k": "v"}, priority=Priority.CRITICAL)
    assert payload(quiet)["aps"] == {"content-available": 1}
    sent = headers(quiet)
    assert (sent["apns-push-type"], sent["apns-priority"]) == ("background", "5")
    assert "apns-collapse-id" not in sent


def test_what_the_sender_gave_in_apns_is_taken_over_as_it_is() -> None:
    aps = {
        "alert": {"title-loc-key": "T", "subtitle": "S"},
        "badge": 3,
        "sound": {"name": "s.caf", "critical": 1, "volume": 0.5},
        "content-available": 1,
        "mutable-content": 1,
        "category": "INVITE",
        "thread-id": "thread",
        "interruption-level": "time-sensitive",
        "relevance-score": 0.7,
    }
    own = {"payload": {"aps": aps, "custom": {"a": [1]}, "k": "own"}}
    assert payload(push(data={"k": "v"}, apns=own)) == {
        "aps": aps, "custom": {"a": [1]}, "k": "own", ID_KEY: MESSAGE,
    }  # fmt: skip


def test_the_message_id_is_the_bridges_own() -> None:
    own = {"payload": {ID_KEY: "theirs"}}
    assert payload(push(data={ID_KEY: "theirs"}, apns=own))[ID_KEY] == MESSAGE


def test_the_rest_of_the_notification_stays_beside_an_override() -> None:
    shown = payload(push(apns={"payload": {"aps": {"badge": 0}}}))["aps"]
    assert shown == {"alert": {"title": "Title", "body": "Body"}, "badge": 0}


@pytest.mark.parametrize(
    "fields",
    [
        {"notification": Notification("Title", image="https://x/i.png")},
        {"apns": {"fcm_options": {"image": "https://x/i.png"}}},
    ],
)
def test_an_image_is_where_fcms_service_extension_looks_for_it(fields: dict[str, Any]) -> None:
    made = payload(push(**fields))
    assert made["fcm_options"] == {"image": "https://x/i.png"}
    assert made["aps"]["mutable-content"] == 1


def test_headers_of_the_sender_go_first_in_any_case() -> None:
    own = {
        "Apns-Priority": "1",
        "apns-expiration": "0",
        "apns-collapse-id": "mine",
        "apns-push-type": "location",
        "apns-topic": "com.example.app.location-query",
    }
    sent = headers(push(collapse_key="ours", apns={"headers": own}))
    assert {name: sent[name.lower()] for name in own} == own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("apns-priority", "7"),
        ("apns-expiration", "soon"),
        ("apns-collapse-id", "x" * 65),
        ("apns-collapse-id", ""),
        ("apns-push-type", "loud"),
        ("apns-topic", "two words"),
        ("apns-topic", "a\r\nb: c"),
        ("apns-id", "00000000-0000-0000-0000-000000000000"),
        ("authorization", "bearer theirs"),
        (":path", "/"),
    ],
)
def test_a_bad_header_of_the_sender_is_named(name: str, value: str) -> None:
    refused = BRIDGE.content(push(apns={"headers": {name: value}}))
    assert isinstance(refused, Unsendable)
    assert [each.field for each in refused.violations] == [f"apns.headers.{name}"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"apns": {"payload": {"aps": "text"}}}, "apns.payload.aps"),
        ({"data": {"aps": "text"}}, "data.aps"),
        ({"apns": {"live_activity_token": "../x"}}, "apns.live_activity_token"),
    ],
)
def test_what_would_take_the_place_of_aps_is_named(fields: dict[str, Any], field: str) -> None:
    refused = BRIDGE.content(push(**fields))
    assert isinstance(refused, Unsendable)
    assert [each.field for each in refused.violations] == [field]


@pytest.mark.parametrize(("kind", "limit"), [("alert", 4096), ("voip", 5120)])
def test_a_payload_has_its_limit(kind: str, limit: int) -> None:
    def sized(extra: int) -> Push:
        own = {"headers": {"apns-push-type": kind}, "payload": {"x": "y" * extra}}
        return push(apns=own)

    room = limit - len(content(sized(0)).body)
    assert len(content(sized(room)).body) == limit
    assert BRIDGE.content(sized(room + 1)) == TooLarge(limit + 1, limit)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_topic_and_push_type_tell_of_each_other(kind: str) -> None:
    topic = f"com.example.app{SUFFIXES[kind]}"
    asked = headers(push(apns={"headers": {"apns-push-type": kind}}))
    assert (asked["apns-push-type"], asked["apns-topic"]) == (kind, topic)
    if SUFFIXES[kind]:
        told = headers(push(), {"topic": topic})
        assert (told["apns-push-type"], told["apns-topic"]) == (kind, topic)


def test_a_push_type_that_was_asked_for_changes_the_topic_of_the_address() -> None:
    asked = push(apns={"headers": {"apns-push-type": "alert"}})
    assert headers(asked, {"topic": "com.example.app.voip"})["apns-topic"] == "com.example.app"


def test_a_live_activity_goes_to_its_own_token() -> None:
    request = encoded(push(apns={"live_activity_token": "AB" * 40}))
    assert request.path == f"/3/device/{'ab' * 40}"
    assert dict(request.headers)["apns-push-type"] == "liveactivity"
    assert dict(request.headers)["apns-topic"] == "com.example.app.push-type.liveactivity"


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        (Priority.CRITICAL, "10"),
        (Priority.HIGH, "10"),
        (Priority.NORMAL, "10"),
        (Priority.LOW, "5"),
    ],
)
def test_what_is_shown_is_urgent_unless_it_is_low(priority: Priority, expected: str) -> None:
    assert headers(push(priority=priority))["apns-priority"] == expected


def test_now_or_never_is_not_stored_by_apple() -> None:
    assert headers(push(ttl_ms=0))["apns-expiration"] == "0"
    assert headers(push(ttl_ms=1))["apns-expiration"] == str(NOW_MS // 1000 + 1)


def test_an_alert_collapses_with_its_own_second_copy() -> None:
    assert headers(push())["apns-collapse-id"] == MESSAGE


@given(st.text(min_size=1, max_size=128))
def test_any_collapse_key_makes_a_collapse_id_of_64_bytes(key: str) -> None:
    made = headers(push(collapse_key=key))["apns-collapse-id"]
    assert re.fullmatch(r"[ -~]{1,64}", made)
    if made != key:
        assert made != headers(push(collapse_key=key + "x"))["apns-collapse-id"]


@pytest.mark.parametrize(
    ("own", "told", "origin"),
    [
        (False, None, "https://api.push.apple.com"),
        (True, None, "https://api.sandbox.push.apple.com"),
        (False, True, "https://api.sandbox.push.apple.com"),
        (True, False, "https://api.push.apple.com"),
    ],
)
def test_a_device_may_tell_its_environment(own: bool, told: bool | None, origin: str) -> None:
    credentials = BRIDGE.credentials(apns_credentials(sandbox=own))
    address = BRIDGE.address({"type": "apns", "token": APNS_TOKEN, "sandbox": told})
    assert BRIDGE.audience(credentials, address) == origin
    elsewhere = BRIDGE.credentials(apns_credentials(endpoint="https://localhost:1"))
    assert BRIDGE.audience(elsewhere, address) == "https://localhost:1"


def test_an_authorization_is_apples_and_lasts_less_than_an_hour() -> None:
    made = BRIDGE.authorize(CREDENTIALS, "", NOW_MS)
    scheme, _, token = made.value.partition(" ")
    assert scheme == "bearer"
    claims = jwt.decode(token, ec_key().public_key(), ["ES256"], options={"verify_iat": False})
    assert claims.keys() == {"iss", "iat"}
    assert claims["iss"] == "TEAM123456"
    assert jwt.get_unverified_header(token)["kid"] == "KEY1234567"
    assert token not in repr(made)


@given(st.integers(NOW_MS, NOW_MS + 10 * HOUR_MS))
def test_all_workers_hold_the_same_token_and_renew_it_every_20_to_60_minutes(now_ms: int) -> None:
    made = BRIDGE.authorize(CREDENTIALS, "", now_ms)
    beside = BRIDGE.authorize(CREDENTIALS, "", max(NOW_MS, made.earliest_ms - 1))
    assert (beside.value, beside.ends_ms) == (made.value, made.ends_ms)
    later = BRIDGE.authorize(CREDENTIALS, "", made.earliest_ms)
    assert later.value != made.value
    assert 20 * 60_000 <= made.renew_ms - now_ms <= 60 * 60_000
    assert later.earliest_ms - made.earliest_ms >= 20 * 60_000
    assert made.earliest_ms <= made.renew_ms < made.ends_ms
    token = made.value.partition(" ")[2]
    issued_s = jwt.decode(token, options={"verify_signature": False})["iat"]
    assert 60 <= now_ms / 1000 - issued_s < 3600
    assert made.ends_ms <= (issued_s + 3600) * 1000


def expected(reason: str) -> type:
    kinds: dict[type, str] = {
        Rejected: "BadCollapseId BadExpirationDate BadMessageId BadPriority DuplicateHeaders "
        "InvalidPushType MethodNotAllowed PayloadEmpty PayloadTooLarge",
        BadAddress: "BadDeviceToken BadPath BadTopic DeviceTokenNotForTopic MissingDeviceToken "
        "MissingTopic TopicDisallowed",
        Misconfigured: "BadCertificate BadCertificateEnvironment BadEnvironmentKeyIdInToken "
        "Forbidden InvalidProviderToken MissingProviderToken UnrelatedKeyIdInToken",
        Reauthorize: "ExpiredProviderToken",
        Unregistered: "ExpiredToken Unregistered",
        RetryAfter: "IdleTimeout Shutdown TooManyRequests TooManyProviderTokenUpdates "
        "InternalServerError ServiceUnavailable",
    }
    (found,) = (kind for kind, reasons in kinds.items() if reason in reasons.split())
    return found


@pytest.mark.parametrize("reason", STATUS_OF)
def test_every_documented_reason_has_its_outcome(reason: str) -> None:
    body = orjson.dumps({"reason": reason})
    outcome = BRIDGE.read(Response(STATUS_OF[reason], {}, body), NOW_MS)
    assert isinstance(outcome, expected(reason))
    assert not isinstance(outcome, Delivered)
    assert outcome.reason == reason


def test_the_table_knows_the_documented_reasons_and_no_other() -> None:
    assert REASONS.keys() == STATUS_OF.keys()


@pytest.mark.parametrize(
    ("reason", "scope"),
    [
        ("TooManyRequests", Scope.DEVICE),
        ("TooManyProviderTokenUpdates", Scope.AUDIENCE),
        ("ServiceUnavailable", Scope.AUDIENCE),
        ("Shutdown", Scope.PUSH),
    ],
)
def test_a_wait_concerns_whom_apple_means_and_lasts_as_long_as_asked(
    reason: str, scope: Scope
) -> None:
    body = orjson.dumps({"reason": reason})
    outcome = BRIDGE.read(Response(STATUS_OF[reason], {"retry-after": "7"}, body), NOW_MS)
    assert outcome == RetryAfter(reason, 7.0, scope)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b"", Delivered("id")),
        (410, b'{"reason":"Unregistered","timestamp":5}', Unregistered("Unregistered", 5)),
        (410, b"", Unregistered("410")),
        (429, b"", RetryAfter("429", scope=Scope.DEVICE)),
        (403, b'{"reason":"NewReason"}', Misconfigured("403 NewReason")),
        (400, b'{"reason":"NewReason"}', Rejected("400 NewReason")),
        (502, b"<html>", RetryAfter("502", scope=Scope.AUDIENCE)),
    ],
)
def test_an_answer_that_says_less_or_more(status: int, body: bytes, outcome: Outcome) -> None:
    assert BRIDGE.read(Response(status, {"apns-id": "id"}, body), NOW_MS) == outcome


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "no PEM"),
        ("key", 5),
        ("key_id", "short"),
        ("team_id", "lower12345"),
        ("topic", ""),
        ("sandbox", "yes"),
    ],
)
def test_a_bad_credential_is_named_with_what_is_accepted(field: str, value: object) -> None:
    with pytest.raises(PushError) as caught:
        BRIDGE.credentials(apns_credentials(**{field: value}))
    (violation,) = caught.value.violations
    assert violation.field == field
    assert CREDENTIALS.ACCEPTS[field] in violation.description


@pytest.mark.parametrize("token", ["", "xyz", "0" * 63, "0" * 202, "0" * 64 + "\n", "../" * 30])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(PushError, match=r"bridge\.token"):
        BRIDGE.address({"type": "apns", "token": token})


def test_one_installation_has_one_identity() -> None:
    one, other = (BRIDGE.address({"type": "apns", "token": t * 32}) for t in ("aB", "Ab"))
    assert one.identity == other.identity


def test_a_probe_reaches_nobody() -> None:
    assert BRIDGE.probe(CREDENTIALS, AUTHORIZATION, NOW_MS).path == f"/3/device/{'0' * 64}"
