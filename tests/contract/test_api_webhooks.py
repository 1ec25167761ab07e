"""Webhooks and dead letters over HTTP, against a real store."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.model.project import Scope
from router.model.webhook import DeadLetter
from router.store.dead_letters import Bounds, DeadLetters
from tests.contract.api_server import Api, running_api
from tests.support.valkey import wall_ms

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the specification's example


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with running_api(store_url, callback_allow_private=False) as running:
        yield running


async def made(api: Api, **fields: Any) -> dict[str, Any]:
    body = {"url": "https://hooks.example.com/push", **fields}
    answer = await api.call("POST", "webhooks", body, key=api.key)
    assert answer.status == 201, answer.text
    found: dict[str, Any] = answer.json
    return found


async def test_a_webhook_is_made_read_changed_and_deleted(api: Api) -> None:
    webhook = await made(api, events=["device.message"])
    assert webhook["secret"].startswith("whsec_")
    assert webhook["health"] == {"state": "ok"}
    assert webhook["events"] == ["device.message"]
    listed = (await api.call("GET", "webhooks", key=api.key)).json["webhooks"]
    assert [found["id"] for found in listed] == [webhook["id"]]
    assert "secret" not in listed[0]
    path = f"webhooks/{webhook['id']}"
    changed = await api.call("PATCH", path, {"url": "https://8.8.8.8/", "events": []}, key=api.key)
    assert changed.json["url"] == "https://8.8.8.8/"
    assert len(changed.json["events"]) == 3
    disabled = await api.call("PATCH", path, {"disabled": True}, key=api.key)
    assert disabled.json["health"]["state"] == "disabled"
    assert disabled.json["health"]["disabled_reason"] == "disabled by its owner"
    enabled = await api.call("PATCH", path, {"disabled": False}, key=api.key)
    assert enabled.json["health"] == {"state": "ok"}
    assert (await api.call("GET", path, key=api.key)).json == enabled.json
    assert (await api.call("DELETE", path, key=api.key)).status == 200
    for method, tail in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", ":rotateSecret")):
        gone = await api.call(method, path + tail, {}, key=api.key)
        assert gone.error["status"] == "NOT_FOUND"


async def test_a_secret_may_be_chosen_and_rotated(api: Api) -> None:
    webhook = await made(api, secret=SECRET)
    assert webhook["secret"] == SECRET
    path = f"webhooks/{webhook['id']}:rotateSecret"
    rotated = (await api.call("POST", path, {}, key=api.key)).json
    assert rotated["secret"] not in {"", SECRET}
    assert rotated["previous_secret_until"] > rotated["created_at"]
    at_once = (await api.call("POST", path, {"overlap": 0}, key=api.key)).json
    assert "previous_secret_until" not in at_once
    bad = await api.call("POST", path, {"overlap": 604_801}, key=api.key)
    assert bad.fields == ["overlap"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["url"]),
        ({"url": "ftp://x"}, ["url"]),
        ({"url": "http://127.0.0.1/"}, ["url"]),
        ({"url": "http://localhost:8080/"}, ["url"]),
        ({"url": "https://x.test", "secret": "short"}, ["secret"]),
        ({"url": "no", "secret": "short"}, ["url", "secret"]),
        ({"url": "https://x.test", "colour": 1}, ["colour"]),
    ],
)
async def test_a_bad_webhook_is_refused(api: Api, body: Any, fields: list[str]) -> None:
    answer = await api.call("POST", "webhooks", body, key=api.key)
    assert answer.status == 400
    assert answer.fields == fields


async def test_an_unknown_kind_of_event_is_refused(api: Api) -> None:
    body = {"url": "https://x.test", "events": ["device.born"]}
    answer = await api.call("POST", "webhooks", body, key=api.key)
    assert answer.error["status"] == "INVALID_ARGUMENT"


async def test_a_project_has_ten_webhooks_at_the_most(api: Api) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(made(api))
    answer = await api.call("POST", "webhooks", {"url": "https://x.test"}, key=api.key)
    assert answer.status == 429
    assert answer.headers["Retry-After"] == "60"  # not soon: it takes somebody who deletes one


async def test_webhooks_that_are_made_at_once_are_no_more_than_ten(api: Api) -> None:
    body = {"url": "https://x.test"}
    calls = (api.call("POST", "webhooks", body, key=api.key) for _ in range(30))
    statuses = [answer.status for answer in await asyncio.gather(*calls)]
    assert sorted(statuses) == [201] * 10 + [429] * 20
    assert len((await api.call("GET", "webhooks", key=api.key)).json["webhooks"]) == 10


@pytest.mark.parametrize("path", ["webhooks", "deadLetters"])
async def test_webhooks_take_an_api_key_with_the_scope_admin(api: Api, path: str) -> None:
    assert (await api.call("GET", path)).status == 401
    assert (await api.call("GET", path, key=api.client_key)).status == 401
    created = await api.services.projects_service.create_key(
        api.project,
        frozenset({Scope.SEND}),
        client=False,
    )
    assert (await api.call("GET", path, key=created.secret)).status == 403


async def bury(api: Api, webhook: str, count: int) -> list[str]:
    letters = DeadLetters(api.services.store, Bounds(1000, 86_400_000))
    now = wall_ms()
    ids = [f"msg_{'abcdefghij'[number]}" for number in range(count)]
    for number, identifier in enumerate(ids, 1):
        letter = DeadLetter(
            identifier, webhook, 0, "message.receipts", 1, now, now, "overflow", (), b'{"n":1}'
        )
        await letters.bury(letter, "00", f"1-{number}")
    return ids


async def test_dead_letters_are_listed_by_pages_shown_replayed_and_dropped(api: Api) -> None:
    webhook = (await made(api))["id"]
    ids = await bury(api, webhook, 5)
    found: list[str] = []
    page = ""
    for _ in range(3):
        answer = await api.call("GET", f"deadLetters?limit=2&page={page}", key=api.key)
        found += [letter["id"] for letter in answer.json["dead_letters"]]
        page = answer.json.get("next_page", "")
    assert not page
    assert sorted(found) == ids
    other = await api.call("GET", "deadLetters?webhook=wh_other", key=api.key)
    assert other.json == {"dead_letters": []}
    shown = (await api.call("GET", "deadLetters/msg_a", key=api.key)).json
    assert (shown["body"], shown["reason"], shown["attempts"]) == ({"n": 1}, "overflow", [])
    assert (await api.call("POST", "deadLetters/msg_a:replay", key=api.key)).json["id"] == "msg_a"
    assert (await api.call("DELETE", "deadLetters/msg_b", key=api.key)).status == 200
    for identifier in ("msg_a", "msg_b"):
        gone = await api.call("GET", f"deadLetters/{identifier}", key=api.key)
        assert gone.status == 404
    left = (await api.call("GET", "deadLetters", key=api.key)).json["dead_letters"]
    assert len(left) == 3


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "page=x", "page=1.x"])
async def test_a_bad_query_is_refused(api: Api, query: str) -> None:
    answer = await api.call("GET", f"deadLetters?{query}", key=api.key)
    assert answer.fields == [query.partition("=")[0]]


async def test_dead_letters_of_another_project_are_unknown(api: Api, store_url: str) -> None:
    webhook = (await made(api))["id"]
    await bury(api, webhook, 1)
    async with running_api(store_url) as other:
        answer = await other.call("GET", "deadLetters/msg_a", key=other.key)
        assert answer.status == 404


async def test_a_deleted_project_takes_its_webhooks_along(api: Api) -> None:
    await made(api)
    await api.call("DELETE", f"/v1/projects/{api.project}", key=api.services.settings.admin_key)
    assert await api.services.endpoints.all(api.project) == []
