"""The FCM of the tests is strict, and fails as Google's does; the bridge pleases it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import google.auth.transport.requests
import httpx
import orjson
import pytest
from google.oauth2 import service_account

from router.bridge import Authorization, Recipient, Request, Response
from router.bridges.fcm import BRIDGE, FcmContent
from router.model.ids import DeviceId
from tests.support.bridges import FCM_TOKEN, NOW_MS, fcm_credentials, pem, push, rsa_key
from tests.support.providers import faults
from tests.support.providers.fcm import SCOPE, STATUS_OF, FcmProvider


class Clock:
    now_s = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now_s


class Google:
    def __init__(self, provider: FcmProvider, clock: Clock) -> None:
        self.provider, self.clock = provider, clock
        self.http = httpx.AsyncClient()
        raw = fcm_credentials(f"{provider.url}/token", endpoint=provider.url)
        self.credentials = BRIDGE.credentials(raw)

    async def post(self, request: Request) -> Response:
        answer = await self.http.request(
            request.method,
            request.origin + request.path,
            headers=list(request.headers),
            content=request.body,
        )
        return Response(answer.status_code, dict(answer.headers), answer.content)

    async def authorize(self) -> Authorization:
        now_ms = int(self.clock() * 1000)
        grant = BRIDGE.authorize(self.credentials, "", now_ms)
        made = BRIDGE.granted(await self.post(grant), now_ms)
        assert isinstance(made, Authorization)
        return made

    def request(self, authorization: Authorization, **fields: Any) -> Request:
        content = BRIDGE.content(push(**fields))
        assert isinstance(content, FcmContent)
        to = Recipient(DeviceId("device"), BRIDGE.address({"type": "fcm", "token": FCM_TOKEN}))
        return BRIDGE.encode(content, self.credentials, to, authorization, NOW_MS)


@pytest.fixture
async def google_(request: pytest.FixtureRequest) -> AsyncIterator[Google]:
    clock = Clock()
    async with FcmProvider(rsa_key().public_key(), now_s=clock) as provider:
        made = Google(provider, clock)
        yield made
        await made.http.aclose()


async def test_what_the_bridge_sends_is_taken(google_: Google) -> None:
    authorization = await google_.authorize()
    every = {
        "data": {"k": "v"},
        "collapse_key": "c",
        "label": "spring",
        "android": {"notification": {"channel_id": "c"}, "data": {"k": "own"}},
        "apns": {"payload": {"aps": {"badge": 1}}, "fcm_options": {"image": "https://x/i.png"}},
        "webpush": {"headers": {"Urgency": "high"}, "fcm_options": {"link": "https://x/"}},
    }
    for fields in ({}, every):
        answer = await google_.post(google_.request(authorization, **fields))
        assert answer.status == 200
    names = [taken.name for taken in google_.provider.taken]
    assert names == [f"projects/firebase-demo/messages/0:{number}" for number in (1, 2)]
    assert google_.provider.taken[1].token == FCM_TOKEN
    assert google_.provider.grants == 1


async def test_googles_own_library_gets_a_token_too() -> None:
    async with FcmProvider(rsa_key().public_key()) as provider:
        account = provider.service_account(pem(rsa_key()))
        made = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            account, scopes=[SCOPE]
        )
        transport = google.auth.transport.requests.Request()
        await asyncio.to_thread(made.refresh, transport)
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                f"{provider.url}/v1/projects/firebase-demo/messages:send",
                json={"message": {"token": FCM_TOKEN}, "validate_only": True},
                headers={"Authorization": f"Bearer {made.token}"},
            )
    assert answer.json() == {"name": "projects/firebase-demo/messages/fake_message_id"}
    assert not provider.taken


async def test_a_probe_is_taken_and_reaches_nobody(google_: Google) -> None:
    authorization = await google_.authorize()
    answer = await google_.post(BRIDGE.probe(google_.credentials, authorization, NOW_MS))
    assert answer.status == 200
    assert not google_.provider.taken


@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_an_assertion_of_another_time_is_refused(google_: Google, seconds: int) -> None:
    then_ms = int((google_.clock() + seconds) * 1000)
    answer = await google_.post(BRIDGE.authorize(google_.credentials, "", then_ms))
    assert (answer.status, orjson.loads(answer.body)) == (400, {"error": "invalid_grant"})


async def test_a_token_ends(google_: Google) -> None:
    authorization = await google_.authorize()
    google_.clock.now_s += 3600
    answer = await google_.post(google_.request(authorization))
    assert answer.status == 401
    assert orjson.loads(answer.body)["error"]["status"] == "UNAUTHENTICATED"


async def test_another_project_is_not_the_accounts(google_: Google) -> None:
    request = google_.request(await google_.authorize())
    answer = await google_.http.post(
        request.origin + request.path.replace("firebase-demo", "other"),
        headers=list(request.headers),
        content=request.body,
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"token": FCM_TOKEN, "user": "u"}, "message.user"),
        ({"token": FCM_TOKEN, "nonsense": 1}, "message"),
        ({"token": FCM_TOKEN, "data": {"k": 1}}, "message"),
        ({"token": FCM_TOKEN, "data": {"from": "x"}}, "message.data[from]"),
        ({"token": FCM_TOKEN, "data": {"k": "v" * 4100}}, "message"),
        ({"token": FCM_TOKEN, "topic": "t"}, "message"),
        ({"token": FCM_TOKEN, "android": {"ttl": "9999999s"}}, "message.android.ttl"),
        ({"token": "x"}, "message.token"),
    ],
)
async def test_a_bad_message_is_refused_with_its_field(
    google_: Google, message: dict[str, Any], field: str
) -> None:
    authorization = await google_.authorize()
    answer = await google_.http.post(
        f"{google_.provider.url}/v1/projects/firebase-demo/messages:send",
        json={"message": message},
        headers={"Authorization": authorization.value},
    )
    assert answer.status_code == 400
    details = answer.json()["error"]["details"]
    assert details[0]["errorCode"] == "INVALID_ARGUMENT"
    assert details[1]["fieldViolations"][0]["field"] == field


async def test_tokens_may_be_gone_or_of_another_sender(google_: Google) -> None:
    authorization = await google_.authorize()
    google_.provider.unregistered.add(FCM_TOKEN)
    assert (await google_.post(google_.request(authorization))).status == 404
    google_.provider.unregistered.clear()
    google_.provider.foreign.add(FCM_TOKEN)
    assert (await google_.post(google_.request(authorization))).status == 403


@pytest.mark.parametrize("code", STATUS_OF)
async def test_it_fails_in_every_documented_way(google_: Google, code: str) -> None:
    request = google_.request(await google_.authorize())
    google_.provider.faults.then(faults.answer(STATUS_OF[code][0], code, retry_after="3"))
    answer = await google_.post(request)
    said = orjson.loads(answer.body)["error"]
    assert (answer.status, answer.headers["retry-after"]) == (STATUS_OF[code][0], "3")
    assert (said["code"], said["status"]) == STATUS_OF[code]
    assert said["details"][0]["errorCode"] == code
    assert (await google_.post(request)).status == 200


@pytest.mark.parametrize(
    ("fault", "taken"), [(faults.CUT_UNREAD, 0), (faults.CUT_READ, 1), (faults.NEVER, 1)]
)
async def test_an_answer_may_not_come(google_: Google, fault: faults.Fault, taken: int) -> None:
    request = google_.request(await google_.authorize())
    google_.provider.faults.then(fault)
    google_.http.timeout = httpx.Timeout(0.2)
    with pytest.raises(httpx.TransportError):
        await google_.post(request)
    assert len(google_.provider.taken) == taken


async def test_an_answer_may_be_slow(google_: Google) -> None:
    request = google_.request(await google_.authorize())
    google_.provider.faults.then(faults.slow(0.01))
    assert (await google_.post(request)).status == 200


async def test_the_token_endpoint_may_fail_alone(google_: Google) -> None:
    google_.provider.token_faults.then(faults.answer(503, "unavailable"))
    grant = BRIDGE.authorize(google_.credentials, "", NOW_MS)
    assert (await google_.post(grant)).status == 503
    assert (await google_.post(grant)).status == 200
