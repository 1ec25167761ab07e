"""The APNs of the tests is strict, and fails as Apple's does; the bridge pleases it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from router.policy.es256 import signed
from tests.contract.apple import Apple, opened_apple
from tests.support.bridges import APNS_TOKEN, NOW_MS, ec_key
from tests.support.providers import faults
from tests.support.providers.apns import STATUS_OF


@pytest.fixture
async def apple(tmp_path: Path) -> AsyncIterator[Apple]:
    async with opened_apple(tmp_path) as made:
        yield made


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
