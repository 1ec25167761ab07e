"""FCM's JSON into messages: what is accepted, what is refused, and under which path."""

import json
from typing import Any

import pytest

from gateway.api.fcm_v1 import parse_batch, parse_duration, parse_send
from router.model.audience import Audience, AudienceKind
from router.model.errors import ErrorCode, PushError
from router.model.message import (
    BridgeMode,
    BridgePolicy,
    Message,
    Notification,
    Priority,
    ReceiptMode,
)
from tests.unit.api.tokens import TOKEN

NOW_MS = 1_900_000_000_000
DAY_MS = 86_400_000

EVERY_FIELD: dict[str, Any] = {
    "token": TOKEN,
    "notification": {"title": "t", "body": "b", "image": "https://example.org/i.png"},
    "data": {"k": "v"},
    "android": {
        "collapse_key": "c",
        "priority": "HIGH",
        "ttl": "3.5s",
        "restricted_package_name": "org.example",
        "data": {"k": "android"},
        "notification": {
            "title": "at",
            "body": "ab",
            "icon": "i",
            "color": "#a0B1c2",
            "sound": "default",
            "tag": "x",
            "click_action": "OPEN",
            "body_loc_key": "b",
            "body_loc_args": ["1"],
            "title_loc_key": "t",
            "title_loc_args": [],
            "channel_id": "c",
            "ticker": "t",
            "sticky": True,
            "event_time": "2030-01-31T08:00:00.123456789Z",
            "local_only": False,
            "notification_priority": "priority_max",
            "default_sound": True,
            "default_vibrate_timings": True,
            "default_light_settings": False,
            "vibrate_timings": ["0s", "0.25s"],
            "visibility": "PRIVATE",
            "notification_count": 3,
            "light_settings": {
                "color": {"red": 0, "green": 0.5, "blue": 1, "alpha": 1.0},
                "light_on_duration": "1s",
                "light_off_duration": "1.000000001s",
            },
            "image": "https://example.org/a.png",
            "proxy": "if_priority_lowered",
        },
        "fcm_options": {"analytics_label": "a-b_c.d~e%f"},
        "direct_boot_ok": True,
        "bandwidth_constrained_ok": True,
        "restricted_satellite_ok": False,
    },
    "webpush": {
        "headers": {"TTL": "60", "Urgency": "high", "Topic": "x"},
        "data": {"w": "1"},
        "notification": {"title": "w", "actions": [{"action": "a"}], "silent": None},
        "fcm_options": {"link": "https://example.org/", "analytics_label": "w"},
    },
    "apns": {
        "headers": {"apns-priority": "10"},
        "payload": {"aps": {"alert": {"title": "x"}, "badge": 1}, "own": [1, 2.5, None]},
        "fcm_options": {"analytics_label": "a", "image": "https://example.org/x.png"},
        "live_activity_token": "abc",
    },
    "fcm_options": {"analytics_label": "top"},
    "ttl": "60s",
    "collapse_key": "ours",
    "priority": "Critical",
    "send_at": "2030-04-01T08:00:00+02:00",
    "receipts": "aggregate",
    "bridge": {"mode": "never", "after": 30},
}


def camel(value: Any, *, inside: bool = True) -> Any:
    """Write names as proto3's JSON does, except in free objects."""
    free = {"data", "headers", "payload"}
    if isinstance(value, dict) and inside:
        return {
            key.split("_")[0] + "".join(p.capitalize() for p in key.split("_")[1:]): camel(
                item, inside=key not in free
            )
            for key, item in value.items()
        }
    return value


def send(message: Any, **around: Any) -> Message:
    body = json.dumps({"message": message, **around}).encode()
    return parse_send(body, NOW_MS).message


def faults(message: Any, **around: Any) -> list[str]:
    with pytest.raises(PushError) as refused:
        send(message, **around)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.violations
    return [violation.field for violation in refused.value.violations]


def test_a_common_message_is_read() -> None:
    assert send(
        {"token": TOKEN, "notification": {"title": "t"}, "data": {"a": "b"}, "ttl": "3600s"}
    ) == Message(token=TOKEN, notification=Notification("t"), data={"a": "b"}, ttl_ms=3_600_000)


def test_every_field_is_accepted() -> None:
    message = send(EVERY_FIELD)
    assert message.ttl_ms == 60_000
    assert message.collapse_key == "ours"
    assert message.priority is Priority.CRITICAL
    assert message.data == {"k": "android"}
    assert message.notification == Notification("at", "ab", "https://example.org/a.png")
    assert message.send_at_ms == 1_901_253_600_000
    assert message.receipts is ReceiptMode.AGGREGATE
    assert message.bridge == BridgePolicy(BridgeMode.NEVER, 30)
    assert message.label == "a-b_c.d~e%f"
    assert message.platforms is not None
    assert message.platforms.data == {"k": "v"}
    assert message.platforms.notification is not None
    assert message.platforms.notification.title == "t"
    assert message.platforms.apns == EVERY_FIELD["apns"]
    assert message.platforms.webpush == EVERY_FIELD["webpush"]


def test_camel_case_means_the_same() -> None:
    assert send(camel(EVERY_FIELD)) == send(EVERY_FIELD)


def test_null_counts_as_missing() -> None:
    nothing = dict.fromkeys(key for key in EVERY_FIELD if key != "token")
    assert send({"token": TOKEN, **nothing}) == send({"token": TOKEN})


def test_android_counts_where_ours_is_missing() -> None:
    message = send(
        {"token": TOKEN, "android": {"ttl": "0s", "priority": "high", "collapse_key": "k"}}
    )
    assert message.ttl_ms == 0
    assert message.priority is Priority.HIGH
    assert message.collapse_key == "k"


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({"bridge": "NEVER"}, BridgePolicy(BridgeMode.NEVER)),
        ({"bridge": "auto", "after": 5}, BridgePolicy(BridgeMode.AUTO, 5)),
        ({"bridge": "auto", "after": "4.2s"}, BridgePolicy(BridgeMode.AUTO, 5)),
        ({"bridge": {"mode": "never"}}, BridgePolicy(BridgeMode.NEVER)),
        ({"bridge": "Only"}, BridgePolicy(BridgeMode.ONLY)),
        ({"after": 7}, BridgePolicy(BridgeMode.AUTO, 7)),
    ],
)
def test_bridge_is_a_word_or_an_object(fields: dict[str, Any], policy: BridgePolicy) -> None:
    assert send({"token": TOKEN, **fields}).bridge == policy


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"foo": 1}, ["message.foo"]),
        ({"android": {"foo": 1}}, ["message.android.foo"]),
        ({"android": {"fcmOptions": {"foo": 1}}}, ["message.android.fcmOptions.foo"]),
        ({"android": {"notification": {"lightSettings": {"color": {"x": 1}}}}},
         ["message.android.notification.lightSettings.color.x"]),
        ({"android": {"ttl": "3.5"}}, ["message.android.ttl"]),
        ({"android": {"ttl": "-1s"}}, ["message.android.ttl"]),
        ({"android": {"ttl": 3600}}, ["message.android.ttl"]),
        ({"ttl": "1s\n"}, ["message.ttl"]),
        ({"ttl": "2419201s"}, ["message.ttl"]),
        ({"ttl": "2419200.0000001s"}, ["message.ttl"]),
        ({"android": {"ttl": "2419201s"}}, ["message.android.ttl"]),
        ({"ttl": "1s", "android": {"ttl": "2419201s"}}, ["message.android.ttl"]),
        ({"android": {"priority": "critical"}}, ["message.android.priority"]),
        ({"android": {"notification": {"color": "#12345"}}},
         ["message.android.notification.color"]),
        ({"android": {"notification": {"color": "red"}}}, ["message.android.notification.color"]),
        ({"android": {"notification": {"eventTime": "2030-01-31"}}},
         ["message.android.notification.eventTime"]),
        ({"android": {"notification": {"visibility": "HIDDEN"}}},
         ["message.android.notification.visibility"]),
        ({"android": {"notification": {"vibrate_timings": ["1s", "x"]}}},
         ["message.android.notification.vibrate_timings[1]"]),
        ({"android": {"notification": {"notification_count": -1}}},
         ["message.android.notification.notification_count"]),
        ({"android": {"notification": {"notification_count": 1.5}}},
         ["message.android.notification.notification_count"]),
        ({"android": {"notification": {"sticky": "true"}}},
         ["message.android.notification.sticky"]),
        ({"android": {"notification": {"light_settings": {"color": {"red": 1.1}}}}},
         ["message.android.notification.light_settings.color.red"]),
        ({"data": {"a": 1, "b": None, "c": "ok"}}, ["message.data.a", "message.data.b"]),
        ({"data": "x"}, ["message.data"]),
        ({"data": {"from": "x"}}, ["message.data.from"]),
        ({"data": {"message_type": "x"}}, ["message.data.message_type"]),
        ({"data": {"google.x": "x", "gcm": "x"}}, ["message.data.google.x", "message.data.gcm"]),
        ({"android": {"data": {"gcm.x": "x"}}}, ["message.android.data.gcm.x"]),
        ({"webpush": {"data": {"from": "x"}}}, ["message.webpush.data.from"]),
        ({"webpush": {"fcm_options": {"link": "http://x"}}}, ["message.webpush.fcm_options.link"]),
        ({"fcm_options": {"analytics_label": "a b"}}, ["message.fcm_options.analytics_label"]),
        ({"fcm_options": {"analytics_label": "x" * 51}}, ["message.fcm_options.analytics_label"]),
        ({"apns": {"payload": [1]}}, ["message.apns.payload"]),
        ({"apns": {"payload": {"a": "x" * 5200}}}, ["message.apns.payload"]),
        ({"notification": "x"}, ["message.notification"]),
        ({"notification": {"title": 1, "subtitle": "x"}},
         ["message.notification.title", "message.notification.subtitle"]),
        ({"send_at": "tomorrow"}, ["message.send_at"]),
        ({"sendAt": "2030-01-31T08:00:00"}, ["message.sendAt"]),
        ({"sendAt": "2031-01-31T08:00:00Z"}, ["message.sendAt"]),
        ({"receipts": "all"}, ["message.receipts"]),
        ({"bridge": "maybe"}, ["message.bridge"]),
        ({"bridge": 1}, ["message.bridge"]),
        ({"bridge": {"mode": "maybe"}}, ["message.bridge.mode"]),
        ({"bridge": {"after": -1}}, ["message.bridge.after"]),
        ({"bridge": {"after": 1}, "after": 1}, ["message.after"]),
        ({"collapse_key": ""}, ["message.collapse_key"]),
        ({"collapse_key": "a", "collapseKey": "b"}, ["message.collapseKey"]),
        ({"token": "x"}, ["message.token"]),
        ({"token": 1}, ["message.token"]),
        ({"topic": "news"}, ["message.topic"]),
        ({"user": "u", "group": "g"}, ["message.user", "message.group"]),
    ],
)  # fmt: skip
def test_faults_are_named_as_they_were_written(fields: dict[str, Any], paths: list[str]) -> None:
    assert faults({"token": TOKEN, **fields}) == paths


def test_a_target_is_required_and_a_token_or_a_topic_is_taken() -> None:
    assert faults({}) == ["message.token"]
    assert faults({"topic": "news", "token": TOKEN}) == ["message.topic"]
    assert faults({"topic": "not a name"}) == ["message.topic"]
    assert faults({"topic": ""}) == ["message.topic"]
    with pytest.raises(PushError, match="`token`, `topic`, `condition`, `user` and `group` are"):
        send({"fid": "x"})


def test_a_user_or_a_group_is_taken_alone() -> None:
    assert send({"user": "a|b/c"}).audience == Audience(AudienceKind.USER, "a|b/c")
    assert send({"group": "family"}).audience == Audience(AudienceKind.GROUP, "family")
    assert send({"group": "family"}).receipts is ReceiptMode.DEVICE
    assert faults({"user": ""}) == faults({"user": "x" * 129}) == ["message.user"]
    assert faults({"user": "a", "token": TOKEN}) == ["message.user"]
    assert faults({"group": "a|b"}) == ["message.group"]
    assert faults({"topic": "a", "user": "b", "group": "c"}) == ["message.user", "message.group"]


def test_a_topic_is_taken_with_or_without_its_prefix() -> None:
    for text in ("news", "/topics/news"):
        message = send({"topic": text})
        assert (message.topic, message.receipts) == ("news", ReceiptMode.AGGREGATE)
    assert send({"topic": "a", "receipts": "device"}).receipts is ReceiptMode.DEVICE
    assert send({"token": TOKEN}).receipts is ReceiptMode.DEVICE


def test_several_faults_come_in_one_answer() -> None:
    assert len(faults({"ttl": 1, "priority": "x", "android": {"foo": 1, "ttl": "y"}})) == 4
    many = {f"field{number}": 1 for number in range(100)}
    assert len(faults(many)) == 20


def test_what_stands_around_the_message_is_checked_too() -> None:
    assert faults({"token": TOKEN}, validateOnly="yes") == ["validateOnly"]
    assert faults({"token": TOKEN}, extra=1) == ["extra"]
    assert faults({"token": TOKEN}, idempotency_key="ü") == ["idempotency_key"]
    assert faults(None) == ["message"]
    assert faults([]) == ["message"]
    body = json.dumps({"message": {"token": TOKEN}, "validateOnly": True, "idempotencyKey": "k"})
    request = parse_send(body.encode(), NOW_MS)
    assert request.validate_only
    assert request.idempotency_key == "k"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"message":{"data":{"a":"\xff"}}}',
        b'{"message":{"data":{"a":"\\ud800"}}}',
        b'{"message":{"apns":{"payload":{"a":NaN}}}}',
        b'{"message":{"apns":{"payload":{"a":1e999}}}}',
        b'{"message":{"apns":{"payload":{"a":' + b"9" * 5000 + b"}}}}",
        b'{"message":{"apns":{"payload":{"a":' + b"[" * 500 + b"]" * 500 + b"}}}}",
        b'{"message":{"apns":{"payload":' + b'{"a":' * 100_000,
        b"[" * 200_000,
        b'{"message":{"token":"a"}} trailing',
    ],
)
def test_hostile_json_is_refused(body: bytes) -> None:
    with pytest.raises(PushError) as refused:
        parse_send(body, NOW_MS)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


def test_the_last_of_two_equal_keys_counts() -> None:
    body = f'{{"message":{{"token":"x","token":"{TOKEN}"}}}}'.encode()
    assert parse_send(body, NOW_MS).message.token == TOKEN


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0s", 0), ("3.5s", 3500), ("1.0004s", 1001), ("1.000s", 1000), ("0.000000001s", 1)],
)
def test_durations_are_rounded_up(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


def test_a_batch_refuses_only_what_is_wrong() -> None:
    batch = parse_batch(
        json.dumps(
            {
                "messages": [
                    {"token": TOKEN},
                    {"token": TOKEN, "android": {"collapseKey": 1}},
                    {"message": {"token": TOKEN}, "idempotency_key": "k"},
                    {"message": {"token": TOKEN, "sendAt": "x"}},
                    7,
                ]
            }
        ).encode(),
        NOW_MS,
    )
    outcomes = [
        [violation.field for violation in item.request.violations]
        if isinstance(item.request, PushError)
        else item.request.idempotency_key
        for item in batch.items
    ]
    assert outcomes == [
        "",
        ["messages[1].android.collapseKey"],
        "k",
        ["messages[3].message.sendAt"],
        ["messages[4]"],
    ]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{}] * 501}, "messages"),
        ({"messages": {}}, "messages"),
        ({}, "messages"),
        ({"messages": [{}], "foo": 1}, "foo"),
        ({"messages": [{}], "validateOnly": 1}, "validateOnly"),
    ],
)
def test_a_batch_as_a_whole_is_refused(body: object, path: str) -> None:
    with pytest.raises(PushError) as refused:
        parse_batch(json.dumps(body).encode(), NOW_MS)
    assert [violation.field for violation in refused.value.violations] == [path]


def test_a_batch_is_read_in_camel_case() -> None:
    body = json.dumps({"messages": [{"token": TOKEN}], "validateOnly": True}).encode()
    batch = parse_batch(body, NOW_MS)
    assert batch.validate_only
    assert not isinstance(batch.items[0].request, PushError)
