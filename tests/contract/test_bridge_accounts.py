"""Bridges over HTTP, against a real store."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.sealing_keys import write_key
from router.bridging.letters import endpoint_of
from router.model.project import Scope
from router.model.webhook import DeadLetter
from router.policy.webpush_keys import from_base64, new_private_key, public_key
from router.store.bridge_credentials import BridgeCredentials
from router.store.dead_letters import Bounds, DeadLetters
from tests.contract.api_server import ADMIN_KEY, Answer, Api, running_api
from tests.support import pigeon
from tests.support.bridges import NOW_MS, apns_credentials, fcm_credentials
from tests.support.valkey import opened_store

KEY = write_key(b"k" * 32)


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with running_api(store_url, secret_key=KEY) as running:
        yield running


async def put(api: Api, name: str, body: Any) -> Answer:
    return await api.call("PUT", f"bridges/{name}", body, key=api.key)


async def test_a_bridge_is_set_up_read_changed_and_removed(api: Api) -> None:
    raw = apns_credentials()
    answer = await put(api, "apns", raw)
    assert answer.status == 200, answer.text
    made = answer.json
    assert (made["name"], made["state"]) == ("apns", "ok")
    assert made["details"] == {
        "key_id": raw["key_id"],
        "team_id": raw["team_id"],
        "topic": raw["topic"],
        "sandbox": "false",
    }
    assert "last_test" not in made
    assert (await api.call("GET", "bridges/apns", key=api.key)).json == made
    changed = await put(api, "apns", {**raw, "topic": "com.example.other", "sandbox": True})
    assert changed.json["details"]["topic"] == "com.example.other"
    assert changed.json["created_at"] == made["created_at"]
    await put(api, "fcm", fcm_credentials())
    listed = (await api.call("GET", "bridges", key=api.key)).json["bridges"]
    assert [each["name"] for each in listed] == ["apns", "fcm"]
    assert listed[1]["details"]["project_id"] == "firebase-demo"
    assert (await api.call("DELETE", "bridges/apns", key=api.key)).json == {}
    for method in ("GET", "DELETE"):
        gone = await api.call(method, "bridges/apns", key=api.key)
        assert gone.error["status"] == "NOT_FOUND"


@pytest.mark.parametrize("gone", ["bridge", "project"])
async def test_dead_letters_go_with_their_bridge(api: Api, store_url: str, gone: str) -> None:
    await put(api, "apns", apns_credentials())
    letter = DeadLetter(
        id="msg_one",
        webhook=endpoint_of(api.project, "apns"),
        lane=0,
        kind="bridge.push",
        receipts=0,
        created_ms=NOW_MS,
        died_ms=NOW_MS,
        reason="rejected",
        history=(),
        body=b"{}",
    )
    async with opened_store(store_url) as store:
        letters = DeadLetters(store, Bounds(10, 600_000))
        await letters.keep(letter)
        path, key = {
            "bridge": ("bridges/apns", api.key),
            "project": (f"/v1/projects/{api.project}", ADMIN_KEY),
        }[gone]
        assert (await api.call("DELETE", path, key=key)).status == 200
        assert await letters.ids(letter.webhook) == []
        assert await letters.get(letter.webhook, [letter.id]) == []


async def test_no_answer_holds_a_secret(api: Api) -> None:
    secret = new_private_key(b"s" * 32)
    bodies = {
        "apns": apns_credentials(),
        "fcm": fcm_credentials(),
        "webpush": {"private_key": secret, "subject": "mailto:ops@example.org"},
    }
    told = ""
    for name, body in bodies.items():
        told += (await put(api, name, body)).text
        told += (await put(api, name, {**body, "nonsense": 1})).text
        told += (await put(api, name, {**body, "endpoint": "nowhere"})).text
        told += (await api.call("GET", f"bridges/{name}", key=api.key)).text
    told += (await api.call("GET", "bridges", key=api.key)).text
    account = bodies["fcm"]["service_account"]
    for hidden in (bodies["apns"]["key"], account["private_key"], secret):
        assert hidden not in told
        assert json.dumps(hidden)[1:-1][40:80] not in told


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("apns", {}, "key"),
        ("apns", {**apns_credentials(), "key_id": "short"}, "key_id"),
        ("apns", {**apns_credentials(), "key": "-----BEGIN hunter2-----"}, "key"),
        ("apns", {**apns_credentials(), "extra": "hunter2"}, "extra"),
        ("fcm", {"service_account": {"project_id": "demo"}}, "service_account.client_email"),
        ("fcm", {"service_account": "hunter2"}, "service_account"),
        ("webpush", {"subject": "hunter2"}, "subject"),
        ("webpush", {"private_key": "hunter2"}, "private_key"),
        ("webpush", {"rotate_keys": "hunter2"}, "rotate_keys"),
        ("webpush", {"ca": "hunter2"}, "ca"),
        ("webpush", [], ""),
    ],
)
async def test_a_bad_field_is_named_and_not_repeated(
    api: Api, name: str, body: Any, field: str
) -> None:
    answer = await put(api, name, body)
    assert answer.error["status"] == "INVALID_ARGUMENT"
    assert answer.fields == [field]
    assert "hunter2" not in answer.text
    assert (await api.call("GET", f"bridges/{name}", key=api.key)).status == 404


async def test_web_push_gets_its_keys_here_and_keeps_them(api: Api) -> None:
    first = (await put(api, "webpush", {})).json
    key = first["details"]["public_key"]
    assert len(from_base64(key)) == 65
    assert "Give a subject" in first["advice"]
    again = (await put(api, "webpush", {"subject": "mailto:ops@example.org"})).json
    assert again["details"] == {"subject": "mailto:ops@example.org", "public_key": key}
    assert "advice" not in again
    kept = (await put(api, "webpush", {"endpoint": "https://proxy.example"})).json
    assert kept["details"]["public_key"] == key
    assert kept["details"]["subject"] == "mailto:ops@example.org"
    rotated = (await put(api, "webpush", {"rotate_keys": True})).json
    assert rotated["details"]["public_key"] != key
    own = new_private_key(b"o" * 32)
    given = (await put(api, "webpush", {"private_key": own})).json
    assert given["details"]["public_key"] == public_key(own)


async def test_apps_read_the_public_key_of_web_push_and_nothing_else(api: Api) -> None:
    made = (await put(api, "webpush", {"subject": "mailto:ops@example.org"})).json
    await put(api, "apns", apns_credentials())
    client = {"X_Client_Key": api.client_key}
    read = await api.call("GET", "bridges/webpush", **client)
    assert read.json == {
        "name": "webpush",
        "details": {"public_key": made["details"]["public_key"]},
    }
    assert (await api.call("GET", "bridges/apns", **client)).status == 403
    assert (await api.call("GET", "bridges/fcm", **client)).status == 404
    assert (await api.call("GET", "bridges/webpush", X_Client_Key="pwc_" + "x" * 32)).status == 401
    for method, path in (("GET", "bridges"), ("PUT", "bridges/webpush")):
        assert (await api.call(method, path, {}, **client)).status == 401
    assert (await api.call("DELETE", "bridges/webpush", **client)).status == 401


async def test_bridges_take_the_scope_admin_of_their_own_project(api: Api) -> None:
    service = api.services.projects_service
    narrow = await service.create_key(
        api.project, frozenset({Scope.SEND, Scope.DEVICES}), client=False
    )
    other = await service.create_project(f"{api.project}-2")
    for key in (narrow.secret, other.api_key):
        for method, path in (
            ("GET", "bridges"),
            ("GET", "bridges/webpush"),
            ("PUT", "bridges/webpush"),
            ("DELETE", "bridges/webpush"),
        ):
            refused = await api.call(method, path, {}, key=key)
            assert refused.error["status"] == "PERMISSION_DENIED"
    assert (await api.call("GET", "bridges")).status == 401


@pytest.mark.parametrize("name", ["pigeon", "apns:state", "%2Fapns", "APNS"])
async def test_what_is_no_bridge_is_told_with_those_that_there_are(api: Api, name: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await api.call(method, f"bridges/{name}", {}, key=api.key)
        assert answer.error["status"] == "NOT_FOUND"
        if ":" not in name:
            assert "there are apns, fcm, webpush" in answer.error["message"]


async def test_changed_credentials_begin_again(api: Api) -> None:
    await put(api, "apns", apns_credentials())
    kept = BridgeCredentials(api.services.store)
    bridge = await kept.get(api.project, "apns")
    assert bridge is not None
    generation = bridge.state.generation
    await kept.suspend(api.project, "apns", generation, "https://apple", "Forbidden", NOW_MS)
    found = (await api.call("GET", "bridges/apns", key=api.key)).json
    assert found["state"] == "suspended"
    (suspended,) = found["suspended"]
    assert (suspended["audience"], suspended["reason"]) == ("https://apple", "Forbidden")
    assert suspended["since"].startswith("2030-03-17T")
    again = (await put(api, "apns", apns_credentials())).json
    assert (again["state"], "suspended" in again) == ("ok", False)


async def test_without_a_key_a_bridge_is_refused_with_the_command_that_makes_one(
    store_url: str,
) -> None:
    async with running_api(store_url) as api:
        answer = await put(api, "webpush", {})
        assert (answer.status, answer.error["status"]) == (400, "FAILED_PRECONDITION")
        assert "pushwire project bridge new-key" in answer.error["message"]
        assert (await api.call("GET", "bridges", key=api.key)).json == {"bridges": []}


async def test_with_another_key_credentials_are_closed_and_not_overwritten_in_part(
    api: Api, store_url: str
) -> None:
    await put(api, "webpush", {"subject": "mailto:ops@example.org"})
    async with running_api(store_url, secret_key=write_key(b"x" * 32)) as other:
        there = f"/v1/projects/{api.project}/bridges/webpush"
        found = (await other.call("GET", there, key=api.key)).json
        assert (found["state"], "details" in found) == ("closed", False)
        assert "which is not here" in found["closed"]
        refused = await other.call("PUT", there, {"subject": "mailto:a@example.org"}, key=api.key)
        assert refused.error["status"] == "FAILED_PRECONDITION"
        assert (await other.call("GET", there, X_Client_Key=api.client_key)).status == 503
        whole = {"private_key": new_private_key(b"n" * 32), "subject": "mailto:a@example.org"}
        assert (await other.call("PUT", there, whole, key=api.key)).json["state"] == "ok"


async def test_a_newer_key_takes_over_and_an_unknown_one_is_told(api: Api, store_url: str) -> None:
    await put(api, "apns", apns_credentials())
    newer = write_key(b"n" * 32)
    async with running_api(store_url, secret_key=f"{newer},{KEY}") as both:
        there = f"/v1/projects/{api.project}/bridges/apns"
        assert (await both.call("GET", there, key=api.key)).json["state"] == "ok"
        assert (await both.services.accounts.reseal()).done >= 1
    async with running_api(store_url, secret_key=newer) as new_only:
        assert (await new_only.call("GET", there, key=api.key)).json["state"] == "ok"
    resealed = await api.services.accounts.reseal()
    assert any(line.startswith(f"{api.project} apns: ") for line in resealed.closed)


async def test_a_deleted_project_leaves_no_credentials(api: Api) -> None:
    await put(api, "apns", apns_credentials())
    await api.call("DELETE", f"/v1/projects/{api.project}", key=ADMIN_KEY)
    kept = BridgeCredentials(api.services.store)
    assert await kept.of(api.project) == []
    assert not [each for each in await kept.all() if each.project == api.project]


async def test_the_api_knows_of_a_bridge_at_once(api: Api) -> None:
    assert not await api.services.bridges.has(api.project, "webpush")
    await put(api, "webpush", {})
    assert await api.services.bridges.has(api.project, "webpush")


async def test_every_field_of_every_bridge_is_described(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json")).json
    put_path = document["paths"]["/v1/projects/{project}/bridges/{bridge}"]
    described = put_path["put"]["description"]
    for kind in api.services.accounts.kinds.values():
        for field, says in kind.takes.ACCEPTS.items():
            assert f"`{field}`: {says}" in described
    assert {"clientKey": []} in put_path["get"]["security"]


async def test_another_bridge_is_one_more_file(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pigeon.settle(tmp_path, monkeypatch)
    async with running_api(store_url, secret_key=KEY) as api:
        refused = await put(api, "pigeon", {"loft": "roof", "whistle": "sh"})
        assert refused.fields == ["whistle"]
        made = await put(api, "pigeon", {"loft": "roof", "whistle": pigeon.SECRET})
        assert made.json["details"] == {"loft": "roof"}
        listed = await api.call("GET", "bridges", key=api.key)
        assert [each["name"] for each in listed.json["bridges"]] == ["pigeon"]
        assert pigeon.SECRET not in made.text + listed.text
        await api.services.bridges.refresh()
        known = api.services.bridges.credentials(api.project, "pigeon")
        assert known is not None
        assert repr(known[1]) == "<PigeonCredentials>"
        document = (await api.call("GET", "/openapi.json")).json
        described = document["paths"]["/v1/projects/{project}/bridges/{bridge}"]["put"]
        assert "`whistle`: 5 letters or more" in described["description"]
