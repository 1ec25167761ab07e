"""Devices with bridges, and messages that bridges carry, as senders and devices see them."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.store.bridge_credentials import BridgeCredentials
from tests.contract.api_server import Api, running_api

NOW_MS = 1_900_000_000_000
PADDING = "x" * 4060


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    """Run the API with a project that has a bridge to APNs; credentials are another matter."""
    async with running_api(store_url) as running:
        kept = BridgeCredentials(running.services.store)
        assert await kept.put(running.project, "apns", b"sealed", NOW_MS)
        yield running


def address() -> dict[str, Any]:
    return {"type": "apns", "token": secrets.token_hex(32)}


async def register(api: Api, bridge: Any, **more: Any) -> Any:
    body = {"platform": "ios", "bridge": bridge, **more}
    return await api.call("POST", "devices", body, X_Client_Key=api.client_key)


async def registered(api: Api) -> tuple[str, str]:
    """Register a device with a bridge and give its id and token."""
    made = (await register(api, address())).json
    return made["device_id"], made["token"]


async def test_a_device_shows_its_bridge_and_never_its_address(api: Api) -> None:
    raw = address()
    device = (await register(api, raw)).json["device_id"]
    shown = await api.call("GET", f"devices/{device}", key=api.key)
    assert set(shown.json["bridge"]) == {"type", "registered_at"}
    assert shown.json["bridge"]["type"] == "apns"
    assert raw["token"] not in shown.text


async def test_null_takes_the_bridge_and_silence_keeps_it(api: Api) -> None:
    device, _ = await registered(api)
    path = f"devices/{device}"
    kept = await api.call("PATCH", path, {"language": "de"}, key=api.key)
    assert kept.json["bridge"]["type"] == "apns"
    gone = await api.call("PATCH", path, {"bridge": None}, key=api.key)
    assert (gone.status, gone.json.get("bridge")) == (200, None)
    back = await api.call("PATCH", path, {"bridge": address()}, key=api.key)
    assert back.json["bridge"]["type"] == "apns"


async def test_a_device_that_says_no_bridge_has_none(api: Api) -> None:
    device = (await register(api, None)).json["device_id"]
    shown = await api.call("GET", f"devices/{device}", key=api.key)
    assert "bridge" not in shown.json


@pytest.mark.parametrize(
    ("bridge", "field"),
    [
        ({"type": "fcm", "token": "t" * 100}, "bridge.type"),
        ({"type": "pigeon"}, "bridge.type"),
        ({}, "bridge.type"),
        ({"type": "apns", "token": 5}, "bridge.token"),
        ("apns", "bridge"),
    ],
)
async def test_a_bridge_that_cannot_be_is_refused(api: Api, bridge: Any, field: str) -> None:
    answer = await register(api, bridge)
    assert (answer.status, answer.fields) == (400, [field])
    device, _ = await registered(api)
    answer = await api.call("PATCH", f"devices/{device}", {"bridge": bridge}, key=api.key)
    assert (answer.status, answer.fields) == (400, [field])


def heavy(token: str) -> dict[str, Any]:
    return {"token": token, "apns": {"payload": {"aps": {"alert": "hi"}, "more": PADDING}}}


@pytest.mark.parametrize("validate_only", [True, False])
async def test_what_the_devices_bridge_cannot_carry_is_refused_at_once(
    api: Api, validate_only: bool
) -> None:
    _, token = await registered(api)
    answer = await api.send(heavy(token), validate_only=validate_only)
    assert (answer.status, answer.fields) == (400, ["message.apns.payload"])
    assert "4096" in answer.error["message"]
    bare = (await api.device())["token"]
    assert (await api.send(heavy(bare), validate_only=validate_only)).status == 200
    free = {**heavy(token), "bridge": "never"}
    assert (await api.send(free, validate_only=validate_only)).status == 200


async def test_a_payload_for_voip_may_be_larger(api: Api) -> None:
    _, token = await registered(api)
    message = heavy(token)
    message["apns"]["headers"] = {"apns-push-type": "voip"}
    assert (await api.send(message)).status == 200


async def test_a_part_that_a_provider_would_refuse_names_its_field(api: Api) -> None:
    _, token = await registered(api)
    message = {"token": token, "apns": {"headers": {"apns-push-type": "shout"}}}
    answer = await api.send(message)
    assert (answer.status, answer.fields) == (400, ["message.apns.headers.apns-push-type"])


@pytest.mark.parametrize("validate_only", [True, False])
async def test_to_many_a_message_must_suit_every_bridge_of_the_project(
    api: Api, validate_only: bool
) -> None:
    device = f"device-of-a-user-{secrets.token_hex(4)}"
    await register(api, None, device_id=device)
    path = f"devices/{device}"
    assert (await api.call("PATCH", path, {"user": "ada"}, key=api.key)).status == 200
    message = {**heavy(""), "user": "ada"}
    message.pop("token")
    await api.services.bridges.refresh()
    answer = await api.send(message, validate_only=validate_only)
    assert (answer.status, answer.fields) == (400, ["message.apns.payload"])
    assert (await api.send({**message, "bridge": "never"})).status == 200


async def test_only_goes_to_a_bridge_or_fails(api: Api) -> None:
    _, token = await registered(api)
    sent = await api.send({"token": token, "bridge": "only", "data": {"k": "v"}})
    status = await api.call("GET", "/v1/" + sent.json["name"], key=api.key)
    assert status.json["state"] == "accepted"
    bare = (await api.device())["token"]
    failed = await api.send({"token": bare, "bridge": {"mode": "only"}, "data": {"k": "v"}})
    status = await api.call("GET", "/v1/" + failed.json["name"], key=api.key)
    assert status.json["state"] == "failed"
    assert status.json["timeline"][-1]["detail"] == "no bridge"


async def test_half_a_surrogate_pair_is_no_text_for_a_bridge(api: Api) -> None:
    _, token = await registered(api)
    body = b'{"message":{"token":"%b","android":{"notification":{"tag":"\\ud800"}}}}'
    answer = await api.call("POST", "messages:send", body % token.encode(), key=api.key)
    assert answer.status == 400
