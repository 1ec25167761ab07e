"""The APNs of the tests is strict, and fails as Apple's does; the bridge pleases it."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.bridge import Authorization, Recipient, Request, Response
from router.bridges.apns import BRIDGE, ApnsContent
from router.model.ids import DeviceId, MessageId
from router.policy.es256 import signed
from tests.support.bridges import APNS_TOKEN, NOW_MS, apns_credentials, ec_key, push
from tests.support.certificate import make_certificate
from tests.support.providers import faults
from tests.support.providers.apns import STATUS_OF, ApnsProvider
from tests.support.providers.client import Http2Client, UnknownError, UnsentError


class Clock:
    now_s = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now_s


class Apple:
    """The provider, an independent client, and what the bridge would send."""

    def __init__(self, provider: ApnsProvider, context: ssl.SSLContext, clock: Clock) -> None:
        self.provider, self.context, self.clock = provider, context, clock
        self.http = httpx.AsyncClient(http2=True, verify=context)
        self.credentials = BRIDGE.credentials(apns_credentials(endpoint=provider.server.url))

    def request(self, number: int = 0, token: str = APNS_TOKEN, **fields: Any) -> Request:
        now_ms = int(self.clock() * 1000)
        content = BRIDGE.content(push(now_ms, id=MessageId(f"message-{number}"), **fields))
        assert isinstance(content, ApnsContent)
        to = Recipient(DeviceId("device"), BRIDGE.address({"type": "apns", "token": token}))
        return BRIDGE.encode(content, self.credentials, to, self.authorization(), now_ms)

    def authorization(self) -> Authorization:
        return BRIDGE.authorize(self.credentials, "", int(self.clock() * 1000))

    async def post(self, request: Request, **headers: str | None) -> Response:
        """Send by httpx, with some headers changed or (None) left out."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        changed = {**dict(request.headers), **given}
        sent = {name: value for name, value in changed.items() if value is not None}
        answer = await self.http.post(
            request.origin + request.path, headers=sent, content=request.body
        )
        assert answer.http_version == "HTTP/2"
        return Response(answer.status_code, dict(answer.headers), answer.content)

    async def client(self) -> Http2Client:
        return await Http2Client.open(self.provider.server.url, self.context)


@pytest.fixture
async def apple(tmp_path: Path) -> AsyncIterator[Apple]:
    certificate = make_certificate(tmp_path)
    clock = Clock()
    provider = ApnsProvider(certificate, ec_key().public_key(), now_s=clock)
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.set_alpn_protocols(["h2"])
    async with provider.server:
        made = Apple(provider, context, clock)
        yield made
        await made.http.aclose()


async def test_what_the_bridge_sends_is_taken_from_an_independent_client(apple: Apple) -> None:
    request = apple.request(data={"k": "v"})
    answer = await apple.post(request)
    assert (answer.status, answer.headers["apns-id"]) == (200, request.id)
    (taken,) = apple.provider.taken
    assert (taken.id, taken.token) == (request.id, APNS_TOKEN)
    assert taken.payload["k"] == "v"


REFUSED: list[tuple[str, dict[str, str | None]]] = [
    ("MissingProviderToken", {"authorization": None}),
    ("InvalidProviderToken", {"authorization": "bearer x"}),
    ("MissingTopic", {"apns_topic": None}),
    ("TopicDisallowed", {"apns_topic": "com.example.other"}),
    ("BadTopic", {"apns_push_type": "voip"}),
    ("InvalidPushType", {"apns_push_type": "loud"}),
    ("InvalidPushType", {"apns_push_type": None}),
    ("BadPriority", {"apns_priority": "7"}),
    ("BadPriority", {"apns_push_type": "background", "apns_priority": "10"}),
    ("BadExpirationDate", {"apns_expiration": "soon"}),
    ("BadMessageId", {"apns_id": "no-uuid"}),
    ("BadCollapseId", {"apns_collapse_id": "x" * 65}),
]


@pytest.mark.parametrize(("reason", "headers"), REFUSED)
async def test_a_bad_header_is_refused_as_apple_says(
    apple: Apple, reason: str, headers: dict[str, str | None]
) -> None:
    answer = await apple.post(apple.request(), **headers)
    assert answer.status == STATUS_OF[reason]
    assert reason.encode() in answer.body
    assert not apple.provider.taken


@pytest.mark.parametrize(
    ("reason", "method", "path", "body"),
    [
        ("MethodNotAllowed", "GET", f"/3/device/{APNS_TOKEN}", b""),
        ("BadPath", "POST", "/2/device/x", b"{}"),
        ("MissingDeviceToken", "POST", "/3/device/", b"{}"),
        ("BadDeviceToken", "POST", "/3/device/xyz", b"{}"),
        ("PayloadEmpty", "POST", f"/3/device/{APNS_TOKEN}", b""),
        ("PayloadEmpty", "POST", f"/3/device/{APNS_TOKEN}", b'{"alert":"x"}'),
        ("PayloadTooLarge", "POST", f"/3/device/{APNS_TOKEN}", b'{"aps":"' + b"x" * 4090),
    ],
)
async def test_a_bad_request_is_refused_as_apple_says(
    apple: Apple, reason: str, method: str, path: str, body: bytes
) -> None:
    request = apple.request()
    answer = await apple.http.request(
        method, request.origin + path, headers=dict(request.headers), content=body
    )
    assert (answer.status_code, answer.json()) == (STATUS_OF[reason], {"reason": reason})


async def test_a_token_ends_after_an_hour_and_is_changed_every_20_minutes_at_most(
    apple: Apple,
) -> None:
    first = apple.request(1)
    assert (await apple.post(first)).status == 200
    now_s = int(apple.clock())
    hasty = signed({"iss": "TEAM123456", "iat": now_s}, ec_key(), {"kid": "KEY1234567"})
    answer = await apple.post(first, authorization=f"bearer {hasty}")
    assert b"TooManyProviderTokenUpdates" in answer.body
    apple.clock.now_s += 1800
    assert (await apple.post(apple.request(2))).status == 200
    apple.clock.now_s += 3600
    assert b"ExpiredProviderToken" in (await apple.post(first)).body


@pytest.mark.parametrize("claims", [{"iss": "OTHER12345"}, {"iat": NOW_MS}])
async def test_a_token_of_another_team_or_of_tomorrow_is_refused(
    apple: Apple, claims: dict[str, Any]
) -> None:
    made = {"iss": "TEAM123456", "iat": int(apple.clock()), **claims}
    token = signed(made, ec_key(), {"kid": "KEY1234567"})
    answer = await apple.post(apple.request(), authorization=f"bearer {token}")
    assert b"InvalidProviderToken" in answer.body


async def test_tokens_may_be_gone_unknown_or_of_another_app(apple: Apple) -> None:
    gone, unknown, foreign = (digit * 64 for digit in "abc")
    apple.provider.gone[gone] = ("Unregistered", 1234)
    apple.provider.unknown.add(unknown)
    apple.provider.foreign.add(foreign)
    answers = [await apple.post(apple.request(token=token)) for token in (gone, unknown, foreign)]
    assert [answer.status for answer in answers] == [410, 400, 400]
    assert answers[0].body == b'{"reason":"Unregistered","timestamp":1234}'
    assert b"BadDeviceToken" in answers[1].body
    assert b"DeviceTokenNotForTopic" in answers[2].body


@pytest.mark.parametrize("reason", STATUS_OF)
async def test_it_fails_in_every_documented_way(apple: Apple, reason: str) -> None:
    told = faults.answer(STATUS_OF[reason], reason, retry_after="3")
    apple.provider.faults.of(APNS_TOKEN, told)
    answer = await apple.post(apple.request())
    assert (answer.status, answer.headers["retry-after"]) == (STATUS_OF[reason], "3")
    assert reason.encode() in answer.body
    assert (b"timestamp" in answer.body) == (answer.status == 410)
    assert (await apple.post(apple.request())).status == 200


@pytest.mark.slow
async def test_one_stream_until_a_request_was_authorized_then_as_many_as_allowed(
    apple: Apple,
) -> None:
    client = await apple.client()
    answers = await _all(client, apple, 300)
    assert {answer.status for answer in answers} == {200}
    assert len(apple.provider.ids) == 300
    assert apple.provider.server.opened == 1
    client.close()


async def _all(client: Http2Client, apple: Apple, count: int) -> list[Response]:
    futures = [client.send(apple.request(number)) for number in range(count)]
    return [await future for future in futures]


async def test_a_goaway_in_mid_stream_answers_what_was_read_and_no_more(apple: Apple) -> None:
    client = await apple.client()
    assert (await client.send(apple.request(0))).status == 200
    apple.provider.faults.then(faults.slow(0.05), faults.GOAWAY_UNREAD)
    read, unread = client.send(apple.request(1)), client.send(apple.request(2))
    with pytest.raises(UnsentError):
        await unread
    assert not client.usable
    assert client.goaway_reason == b'{"reason":"Shutdown"}'
    assert (await read).status == 200
    assert len(apple.provider.taken) == 2


async def test_a_goaway_after_the_request_is_followed_by_its_answer(apple: Apple) -> None:
    client = await apple.client()
    apple.provider.faults.then(faults.GOAWAY_READ)
    assert (await client.send(apple.request())).status == 200
    assert not client.usable
    with pytest.raises(UnsentError):
        await client.send(apple.request())


async def test_a_refused_stream_was_not_looked_at(apple: Apple) -> None:
    client = await apple.client()
    apple.provider.faults.then(faults.REFUSE)
    with pytest.raises(UnsentError):
        await client.send(apple.request())
    assert not apple.provider.taken
    assert (await client.send(apple.request())).status == 200
    client.close()


@pytest.mark.parametrize(("fault", "taken"), [(faults.CUT_UNREAD, 0), (faults.CUT_READ, 1)])
async def test_a_lost_connection_does_not_tell_what_was_taken(
    apple: Apple, fault: faults.Fault, taken: int
) -> None:
    client = await apple.client()
    apple.provider.faults.then(fault)
    with pytest.raises(UnknownError):
        await client.send(apple.request())
    assert len(apple.provider.taken) == taken


async def test_a_request_may_never_be_answered_while_others_are(apple: Apple) -> None:
    client = await apple.client()
    assert (await client.send(apple.request(0))).status == 200
    apple.provider.faults.then(faults.NEVER)
    silent, other = client.send(apple.request(1)), client.send(apple.request(2))
    assert (await other).status == 200
    assert not silent.done()
    client.close()
    with pytest.raises(UnknownError):
        await silent
    assert len(apple.provider.taken) == 3


async def test_few_streams_are_kept_to(apple: Apple) -> None:
    apple.provider.server.max_streams = 3
    client = await apple.client()
    answers = await _all(client, apple, 20)
    assert {answer.status for answer in answers} == {200}
    assert apple.provider.server.most_streams <= 3
    client.close()
