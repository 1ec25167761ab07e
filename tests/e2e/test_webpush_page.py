"""The page and the service worker of docs/bridges-webpush.md, in a browser.

The browser's own push service is out of reach here: the subscription is one of the tests' push
service, and what that took is handed to the service worker as the browser would.
"""

import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.sealing_keys import write_key
from router.bridges.webpush import BRIDGE, WebpushContent
from router.model.message import Notification
from router.policy.webpush_keys import to_base64
from tests.contract.api_server import Api, running_api
from tests.support.bridges import push
from tests.support.foreign.devtools import Tab, driven_browser
from tests.support.waiting import eventually
from tests.tidy.tree import ROOT

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


def snippet(language: str) -> str:
    """What the page shows in this language."""
    text = (ROOT / "docs" / "bridges-webpush.md").read_text()
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(found)


@contextlib.asynccontextmanager
async def site(api: Api) -> AsyncIterator[str]:
    """Serve the two files, from another origin than the gateway's."""
    page = snippet("html").replace("my-app", api.project).replace("pwc_…", api.client_key)
    page = page.replace("https://push.example.com", api.url)

    async def give_page(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def give_worker(_request: web.Request) -> web.Response:
        return web.Response(text=snippet("js"), content_type="text/javascript")

    application = web.Application()
    application.router.add_get("/", give_page)
    application.router.add_get("/sw.js", give_worker)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with running_api(store_url, secret_key=write_key(b"k" * 32)) as running:
        yield running


async def opened(tab: Tab, origin: str) -> None:
    """Open the page with the permission given and a subscription at hand."""
    await tab.call("Browser.grantPermissions", permissions=["notifications"], origin=origin)
    await tab.call("Page.enable")
    await tab.call("ServiceWorker.enable")
    subscription = {
        "endpoint": f"https://push.example/send/{secrets.token_hex(8)}",
        "expirationTime": None,
        "keys": {"p256dh": to_base64(b"\x04" + POINT), "auth": to_base64(b"a" * 16)},
    }
    await tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source=f"""PushManager.prototype.subscribe = async (options) => {{
            window.asked = options; return {json.dumps(subscription)}; }};""",
    )
    await tab.call("Page.navigate", url=origin)


_SHOWN = """navigator.serviceWorker.ready.then((r) => r.getNotifications()).then((all) =>
    all.map(({title, body, tag, data}) => ({title, body, tag, data})))"""
POINT = bytes.fromhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
"""The generator of P-256: a point as good as any."""


async def text_of_token(tab: Tab) -> Any:
    return await tab.run('document.querySelector("#token")?.textContent ?? ""')


async def delivered(tab: Tab, origin: str, payload: str) -> Any:
    """Hand a push to the service worker, and give what is shown."""
    versions = [
        version
        for event in tab.events
        if event["method"] == "ServiceWorker.workerVersionUpdated"
        for version in event["params"]["versions"]
    ]
    await tab.call(
        "ServiceWorker.deliverPushMessage",
        origin=origin,
        registrationId=versions[-1]["registrationId"],
        data=payload,
    )
    return await tab.run(_SHOWN)


async def test_the_page_registers_the_browser_and_the_worker_shows_the_push(api: Api) -> None:
    made = await api.call("PUT", "bridges/webpush", {"subject": "mailto:a@b.example"}, key=api.key)
    async with site(api) as origin, driven_browser() as tab:
        await opened(tab, origin)
        token = await eventually(lambda: text_of_token(tab), 20.0)
        asked = await tab.run("window.asked")
        assert asked["applicationServerKey"] == made.json["details"]["public_key"]
        assert asked["userVisibleOnly"]
        device = json.loads(await tab.run('localStorage.getItem("device")'))
        assert device["token"] == token
        shown = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
        assert shown.json["bridge"]["type"] == "webpush"

        await tab.call("Page.navigate", url=origin)
        assert await eventually(lambda: text_of_token(tab), 20.0) == token, "it is the same device"

        content = BRIDGE.content(
            push(notification=Notification("Hello", "from home"), data={"order": "17"})
        )
        assert isinstance(content, WebpushContent)
        await tab.run("navigator.serviceWorker.ready.then(() => true)")
        notifications: list[dict[str, Any]] = await eventually(
            lambda: delivered(tab, origin, content.plain.decode()), 20.0
        )
    (notification,) = notifications
    payload = json.loads(content.plain)
    assert (notification["title"], notification["body"]) == ("Hello", "from home")
    assert notification["tag"] == payload["notification"]["tag"]
    assert notification["data"] == {"order": "17", "pushwire_id": payload["pushwire_id"]}
