"""Pushes of the platform, and the bridge that a device says."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sdk_client import Device
from sdk_client.api import Api
from sdk_client.errors import ApiError
from sdk_client.registration import Wish, ensure_registered
from sdk_client.state import Registration, StateFile

BRIDGE = {"type": "apns", "token": "ab" * 32}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.json"


def saved(path: Path, **about: Any) -> StateFile:
    state = StateFile.read(path)
    state.save(Registration("http://127.0.0.1:9", "demo", "d", "t", "c", about=about))
    return state


@pytest.mark.parametrize(
    "payload",
    [
        {"pushwire_id": "m", "aps": {}},
        {"data": {"pushwire_id": "m", "k": "v"}},
    ],
)
async def test_a_push_is_news_once_over_restarts(path: Path, payload: dict[str, object]) -> None:
    saved(path).close()
    async with Device.load(path) as device:
        assert await device.take_push(payload)
        assert not await device.take_push(payload)
    async with Device.load(path) as device:
        assert not await device.take_push(payload)


@pytest.mark.parametrize("payload", [{}, {"pushwire_id": 5}, {"data": "text"}, {"pushwire_id": ""}])
async def test_a_push_of_somebody_else_is_the_apps_own(
    path: Path, payload: dict[str, object]
) -> None:
    saved(path).close()
    async with Device.load(path) as device:
        assert await device.take_push(payload)
        assert await device.take_push(payload)


class Gateway:
    """Answers the calls of a registration, and keeps what was said."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        self.said.append(await request.json())
        if request.method == "POST":
            made = {"device_id": "d", "token": "t", "credential": "d.c", "device_url": "ws://x"}
            return web.json_response(made, status=201)
        error = {"error": {"code": self.status, "message": "no", "status": "INVALID_ARGUMENT"}}
        return web.json_response({} if self.status == 200 else error, status=self.status)


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, str]]:
    played = Gateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", played.answer)
    async with TestServer(app) as server:
        yield played, str(server.make_url("")).rstrip("/")


async def register(url: str, state: StateFile, bridge: object = BRIDGE) -> None:
    wish = Wish(url, "demo", "key", {"platform": "ios", "bridge": bridge})
    await ensure_registered(Api(url, "demo"), state, wish)


async def test_a_bridge_is_said_at_registration_and_again_after_a_day(
    gateway: tuple[Gateway, str], path: Path
) -> None:
    played, url = gateway
    state = StateFile.read(path)
    await register(url, state)
    await register(url, state)
    assert played.said == [{"platform": "ios", "bridge": BRIDGE}]
    assert state.registration is not None
    said_at = state.registration.bridge_said_at
    age(path, said_at - 90_000)
    state = StateFile.read(path)
    await register(url, state)
    assert played.said[1:] == [{"bridge": BRIDGE}]
    assert state.registration is not None
    assert state.registration.bridge_said_at >= said_at


def age(path: Path, said_at: float) -> None:
    head = json.loads(path.read_text().splitlines()[0])
    head["registration"]["bridge_said_at"] = said_at
    path.write_text(json.dumps(head) + "\n")


async def test_a_bridge_that_the_gateway_no_longer_takes_does_not_keep_the_app_from_starting(
    gateway: tuple[Gateway, str], path: Path
) -> None:
    played, url = gateway
    await register(url, StateFile.read(path))
    age(path, 5.0)
    played.status = 400
    await register(url, StateFile.read(path))
    with pytest.raises(ApiError):
        await register(url, StateFile.read(path), {"type": "fcm"})


async def test_a_bridge_that_changes_is_kept_as_said(
    gateway: tuple[Gateway, str], path: Path
) -> None:
    played, url = gateway
    await register(url, StateFile.read(path))
    async with Device.load(path) as device:
        await device.set_bridge(None)
    assert played.said[-1] == {"bridge": None}
    state = StateFile.read(path)
    assert state.registration is not None
    assert state.registration.about["bridge"] is None
