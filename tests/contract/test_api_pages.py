"""Calls from pages in browsers: the calls of apps, from the origins that are allowed."""

from collections.abc import AsyncIterator

import pytest

from gateway.sealing_keys import write_key
from tests.contract.api_server import Answer, Api, running_api

SHOP = "https://shop.example"
OTHER = "https://other.example"
KEY = write_key(b"k" * 32)


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with running_api(store_url, allowed_origins=f"{SHOP}, https://b", secret_key=KEY) as api:
        yield api


async def asked(api: Api, method: str, path: str, origin: str = SHOP) -> Answer:
    headers = {"Origin": origin, "Access_Control_Request_Method": method}
    return await api.call("OPTIONS", path, **headers)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "devices"), ("PATCH", "devices/abc"), ("GET", "bridges/webpush")],
)
async def test_a_browser_that_asks_hears_what_pages_may_send(
    api: Api, method: str, path: str
) -> None:
    answer = await asked(api, method, path)
    assert (answer.status, answer.text) == (200, "")
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.headers["Access-Control-Allow-Methods"] == method
    assert "X-Client-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("method", "path", "origin"),
    [
        ("POST", "devices", OTHER),
        ("POST", "messages:send", SHOP),
        ("PUT", "bridges/webpush", SHOP),
        ("GET", "bridges", SHOP),
        ("BREW", "devices", SHOP),
        ("", "devices", SHOP),
    ],
)
async def test_other_calls_and_other_origins_are_refused(
    api: Api, method: str, path: str, origin: str
) -> None:
    answer = await asked(api, method, path, origin)
    assert answer.status == 405
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_page_can_read_answers_and_errors(api: Api) -> None:
    body = {"platform": "web"}
    made = await api.call("POST", "devices", body, X_Client_Key=api.client_key, Origin=SHOP)
    assert (made.status, made.headers["Access-Control-Allow-Origin"]) == (201, SHOP)
    refused = await api.call("POST", "devices", {}, X_Client_Key=api.client_key, Origin=SHOP)
    assert refused.fields == ["platform"]
    assert refused.headers["Access-Control-Allow-Origin"] == SHOP
    for origin in (OTHER, ""):
        hidden = await api.call("POST", "devices", body, X_Client_Key=api.client_key, Origin=origin)
        assert hidden.status == 201
        assert "Access-Control-Allow-Origin" not in hidden.headers
    sent = await api.call("POST", "messages:send", {}, key=api.key, Origin=SHOP)
    assert "Access-Control-Allow-Origin" not in sent.headers


@pytest.mark.parametrize(("allowed", "told"), [("*", "*"), ("", None)])
async def test_all_origins_or_none(store_url: str, allowed: str, told: str | None) -> None:
    async with running_api(store_url, allowed_origins=allowed) as api:
        answer = await asked(api, "POST", "devices")
        assert answer.headers.get("Access-Control-Allow-Origin") == told
        body = {"platform": "web"}
        made = await api.call("POST", "devices", body, X_Client_Key=api.client_key, Origin=SHOP)
        assert made.headers.get("Access-Control-Allow-Origin") == told
