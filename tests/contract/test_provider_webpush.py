"""The push service of the tests is strict, and pywebpush pleases it as the bridge does."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pywebpush
import requests

from router.bridge import Recipient, Request, Response
from router.bridges.webpush import BRIDGE, WebpushContent
from router.model.ids import DeviceId
from router.policy.webpush_keys import new_private_key, public_key
from tests.support.bridges import MESSAGE, NOW_MS, push
from tests.support.certificate import make_certificate
from tests.support.providers import faults
from tests.support.providers.webpush import Browser, WebpushService

KEY = new_private_key(b"k" * 32)
SUBJECT = "mailto:ops@example.com"


class Clock:
    now_s = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now_s


class Web:
    def __init__(self, service: WebpushService, certificate: Path, clock: Clock) -> None:
        self.service, self.certificate, self.clock = service, certificate, clock
        self.http = httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(certificate)))
        self.credentials = BRIDGE.credentials({"private_key": KEY, "subject": SUBJECT})
        self.browser = service.subscribe(public_key(KEY))

    def request(self, browser: Browser | None = None, **fields: Any) -> Request:
        raw = {"type": "webpush", "subscription": (browser or self.browser).to_json()}
        address = BRIDGE.address(raw)
        audience = BRIDGE.audience(self.credentials, address)
        authorization = BRIDGE.authorize(self.credentials, audience, int(self.clock() * 1000))
        content = BRIDGE.content(push(**fields))
        assert isinstance(content, WebpushContent)
        to = Recipient(DeviceId("device"), address)
        entropy = os.urandom(BRIDGE.entropy_bytes)
        return BRIDGE.encode(content, self.credentials, to, authorization, NOW_MS, entropy)

    async def post(self, request: Request, **headers: str | None) -> Response:
        """Send by httpx, with some headers changed or (None) left out."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        changed = {**dict(request.headers), **given}
        answer = await self.http.post(
            request.origin + request.path,
            headers={name: value for name, value in changed.items() if value is not None},
            content=request.body,
        )
        return Response(answer.status_code, dict(answer.headers), answer.content)


@pytest.fixture(params=[False, True], ids=["any", "apple"])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Web]:
    certificate = make_certificate(tmp_path)
    clock = Clock()
    async with WebpushService(certificate, now_s=clock, apple=request.param) as service:
        made = Web(service, certificate[0], clock)
        yield made
        await made.http.aclose()


async def test_what_the_bridge_sends_is_taken_and_read(web: Web) -> None:
    answer = await web.post(web.request(data={"k": "v"}, collapse_key="with_underscore"))
    assert answer.status == 201
    assert answer.headers["location"] == f"{web.service.url}/message/1"
    (taken,) = web.service.taken
    assert taken.payload["pushwire_id"] == MESSAGE
    assert taken.payload["data"] == {"k": "v"}
    assert (taken.ttl_s, taken.urgency) == (3600, "normal")


async def test_a_later_push_with_the_same_topic_replaces_the_first(web: Web) -> None:
    for body in ("first", "second"):
        assert (await web.post(web.request(data={"k": body}, collapse_key="c"))).status == 201
    (waiting,) = web.browser.pending.values()
    assert waiting.payload["data"] == {"k": "second"}


async def test_pywebpush_is_taken_too(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    async with WebpushService(certificate) as service:
        browser = service.subscribe(public_key(KEY))
        session = requests.Session()
        session.trust_env = False
        session.verify = str(certificate[0])
        answer = await asyncio.to_thread(
            pywebpush.webpush,
            browser.to_json(),
            "by another sender",
            vapid_private_key=KEY,
            vapid_claims={"sub": SUBJECT},
            ttl=60,
            headers={"Urgency": "low", "Topic": "t"},
            requests_session=session,
        )
        session.close()
    assert answer.status_code == 201
    (taken,) = service.taken
    assert (taken.plain, taken.ttl_s, taken.urgency, taken.topic) == (
        b"by another sender", 60, "low", "t",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, {"authorization": None}),
        (401, {"authorization": "Bearer x"}),
        (400, {"ttl": None}),
        (400, {"ttl": "soon"}),
        (400, {"topic": "x" * 33}),
        (400, {"topic": "two words"}),
        (400, {"urgency": "now"}),
        (400, {"content_encoding": "aesgcm"}),
    ],
)
async def test_a_bad_header_is_refused(
    web: Web, status: int, headers: dict[str, str | None]
) -> None:
    assert (await web.post(web.request(), **headers)).status == status
    assert not web.service.taken


async def test_a_key_that_is_not_the_subscriptions_is_refused(web: Web) -> None:
    stranger = web.service.subscribe(public_key(new_private_key(b"o" * 32)))
    answer = await web.post(web.request(stranger))
    assert (answer.status, answer.body) == (403, b'{"reason":"VapidPkHashMismatch"}')


@pytest.mark.parametrize("hours", [25, -25])
async def test_a_token_of_another_day_is_refused(web: Web, hours: int) -> None:
    request = web.request()
    web.clock.now_s += hours * 3600
    answer = await web.post(request)
    assert (answer.status, answer.body) == (403, b'{"reason":"BadJwtToken"}')


async def test_what_was_encrypted_for_another_is_refused(web: Web) -> None:
    request = web.request()
    other = web.request(web.service.subscribe(public_key(KEY)))
    answer = await web.http.post(
        request.origin + request.path, headers=list(request.headers), content=other.body
    )
    assert answer.status_code == 400


async def test_a_body_has_its_limit(web: Web) -> None:
    request = web.request()
    answer = await web.http.post(
        request.origin + request.path, headers=list(request.headers), content=b"x" * 4097
    )
    assert answer.status_code == 413


async def test_a_subscription_may_be_gone_or_never_have_been(web: Web) -> None:
    request = web.request()
    web.service.gone.add(web.browser.id)
    assert (await web.post(request)).status == 410
    web.service.browsers.clear()
    assert (await web.post(request)).status == 404


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 410, 413, 429, 500, 503])
async def test_it_fails_in_every_documented_way(web: Web, status: int) -> None:
    web.service.faults.of(web.browser.id, faults.answer(status, retry_after="3"))
    answer = await web.post(web.request())
    assert (answer.status, answer.headers["retry-after"]) == (status, "3")
    assert (await web.post(web.request())).status == 201


@pytest.mark.parametrize(
    ("fault", "taken"), [(faults.CUT_UNREAD, 0), (faults.CUT_READ, 1), (faults.NEVER, 1)]
)
async def test_an_answer_may_not_come(web: Web, fault: faults.Fault, taken: int) -> None:
    web.service.faults.then(fault)
    web.http.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.TransportError):
        await web.post(web.request())
    assert len(web.service.taken) == taken
