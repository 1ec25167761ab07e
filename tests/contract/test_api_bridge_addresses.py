"""Whatever a device says of its bridge: the field is named, what it accepts, and nothing breaks."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.sealing_keys import write_key
from tests.contract.api_server import Answer, Api, running_api
from tests.support.bridges import apns_credentials, fcm_credentials
from tests.support.providers.webpush import Browser
from tests.support.valkey import running_server

APNS = {"type": "apns", "token": "ab" * 32}
FCM = {"type": "fcm", "token": "t" * 100}
SUBSCRIPTION = Browser("i", "https://push.example/i", "").to_json()
KEYS = SUBSCRIPTION["keys"]
MAX_ANSWER_CHARS = 1_000


def webpush(**changes: Any) -> dict[str, Any]:
    return {"type": "webpush", "subscription": {**SUBSCRIPTION, **changes}}


@pytest.fixture(scope="module")
def own_store() -> Iterator[str]:
    with running_server() as server:
        yield server.url


@pytest.fixture
async def api(own_store: str) -> AsyncIterator[Api]:
    async with running_api(own_store, secret_key=write_key(b"k" * 32)) as running:
        given = {"apns": apns_credentials(), "fcm": fcm_credentials(), "webpush": {}}
        for bridge, credentials in given.items():
            answer = await running.call("PUT", f"bridges/{bridge}", credentials, key=running.key)
            assert answer.status == 200
        yield running


async def register(api: Api, bridge: Any) -> Answer:
    body = {"platform": "ios", "bridge": bridge}
    return await api.call("POST", "devices", body, X_Client_Key=api.client_key)


def each(of: dict[str, Any], field: str, *values: Any) -> list[Any]:
    """Give an address with each of these values in a field."""
    return [{**of, field: value} for value in values]


def at(*endpoints: Any) -> list[Any]:
    return [webpush(endpoint=endpoint) for endpoint in endpoints]


def keyed(name: str, *values: Any) -> list[Any]:
    return [webpush(keys={**KEYS, name: value}) for value in values]


ODD: list[tuple[str, list[Any]]] = [
    ("bridge", [0, 1.5, True, "apns", [], [APNS]]),
    (
        "bridge.type",
        [
            *({}, *each({}, "type", None, 1, ["apns"], {"apns": "apns"})),
            *each({}, "type", "", "APNS", "apns ", "apns\0", "../apns", "x" * 60_000),
        ],
    ),
    (
        "bridge.token",
        [
            *each(APNS, "token", None, 5, {}, "", "ab" * 31, "ab" * 101),
            *each(APNS, "token", "zz" * 32, "ab" * 32 + "\n", "ab" * 32 + "\0"),
            *each(FCM, "token", "", "x" * 5_000, "a b" * 20, ["x"], "ü" * 20),
        ],
    ),
    ("bridge.topic", each(APNS, "topic", "", "a b", "a\r\nb: c", "ü", [], "x" * 257)),
    ("bridge.sandbox", each(APNS, "sandbox", "true", 1, {})),
    ("bridge.extra", [{**APNS, "extra": {"a": [{}]}}, {**FCM, "extra": 1}]),
    ("bridge." + "x" * 64, [{**FCM, "x" * 60_000: 1}]),
    ("bridge.subscription", each({"type": "webpush"}, "subscription", None, "x", [])),
    (
        "bridge.subscription.endpoint",
        [
            *at(None, 5, "", "http://push.example/x", "file:///etc/passwd", "https:///x"),
            *at("https://user:pw@push.example/x", "https://push.example/x#y", "https://h\0/"),
            *at("https://push.example:0/x", "https://push.example:99999/x", "https://[::1/x"),
            *at("https://push.example\\@h/x", "https://ex%61mple/x", "https://h/" + "x" * 2_000),
            *at("https://./x", "https://h..example/x", f"https://{'h' * 64}.example/x"),
            *at("https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x", "https://127.1/"),
            *at("https://2130706433/x", "https://0x7f000001/x", "https://169.254.169.254/latest"),
            *at("https://[::ffff:10.0.0.1]/x", "https://[64:ff9b::a00:1]/x", "https://0.0.0.0/"),
            *at("https://192.168.0.1:8443/x", "https://a.localhost/x", "https://[fe80::1%25lo]/"),
        ],
    ),
    ("bridge.subscription.keys", [webpush(keys=keys) for keys in (None, 1, [KEYS])]),
    (
        "bridge.subscription.keys.p256dh",
        [
            *keyed("p256dh", None, {}, "", "A" * 87, "BA" + "A" * 85, KEYS["p256dh"][:-1]),
            *keyed("p256dh", "é" * 87, KEYS["p256dh"] + "A", KEYS["p256dh"] + "=" * 3),
            *keyed("p256dh", KEYS["p256dh"] + "=" * 50_000),
        ],
    ),
    (
        "bridge.subscription.keys.auth",
        keyed("auth", None, 1, "", "A" * 21, "A" * 23, "é" * 22, "A" * 20 + "\n="),
    ),
]


@pytest.mark.parametrize(("field", "odd"), ODD, ids=[field[:40] for field, _ in ODD])
async def test_an_odd_bridge_is_refused_by_its_field(api: Api, field: str, odd: list[Any]) -> None:
    for bridge in odd:
        answer = await register(api, bridge)
        assert (answer.status, answer.fields) == (400, [field]), str(bridge)[:200]
        assert len(answer.text) < MAX_ANSWER_CHARS
        words = ("must be", "is required", "is not known; accepted are")
        assert any(each in answer.error["message"] for each in words)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"apns","token":"\\ud800"}',
        b'{"type":"apns","\\ud800":1}',
        b'{"type":"apns","token":"\xff"}',
        b'{"type":"apns","token":NaN}',
        b"[" * 50_000,
        b'{"a":' * 10_000,
    ],
    ids=["half a pair", "half a pair as a name", "no UTF-8", "NaN", "deep array", "deep object"],
)
async def test_what_is_no_json_is_refused(api: Api, raw: bytes) -> None:
    body = b'{"platform":"ios","bridge":%b}' % raw
    answer = await api.call("POST", "devices", body, X_Client_Key=api.client_key)
    assert answer.error["status"] == "INVALID_ARGUMENT"
    assert len(answer.text) < MAX_ANSWER_CHARS


async def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    answer = await register(api, {**APNS, "token": "a" * 1_000_000})
    assert answer.status == 413


async def test_what_is_odd_and_right_is_taken(api: Api) -> None:
    padded = {"p256dh": KEYS["p256dh"] + "=", "auth": KEYS["auth"] + "=="}
    for bridge in (
        webpush(keys=padded),
        webpush(endpoint="https://updates.push.example:8443?x=%00"),
        webpush(expirationTime=None, more={"of": "it"}),
        {**APNS, "token": "AB" * 100, "topic": "com.example.app.voip", "sandbox": True},
    ):
        assert (await register(api, bridge)).status == 201


async def test_a_refused_change_leaves_the_bridge_as_it_was(api: Api) -> None:
    device = (await register(api, FCM)).json["device_id"]
    path = f"devices/{device}"
    before = (await api.call("GET", path, key=api.key)).json
    for _, odd in ODD:
        answer = await api.call("PATCH", path, {"bridge": odd[0]}, key=api.key)
        assert answer.error["status"] == "INVALID_ARGUMENT"
    assert (await api.call("GET", path, key=api.key)).json == before
