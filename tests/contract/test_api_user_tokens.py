"""User tokens: what proves whose device it is, and what does not."""

import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from gateway.api.projects_service import CreatedProject
from gateway.api.user_tokens import LEEWAY_S
from router.model.errors import PushError
from tests.contract.api_server import Answer, Api, running_api


class Site:
    """An API, and the app server of a project that can sign."""

    def __init__(self, api: Api, project: CreatedProject) -> None:
        self.api = api
        self.secret = project.user_secret
        self.client_key = project.client_key
        self.project = project.project

    def token(self, *, key: str = "", algorithm: str = "HS256", **claims: Any) -> str:
        whole = {"sub": "anna", "exp": time.time() + 60, **claims}
        kept = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(kept, key or self.secret, algorithm=algorithm)

    async def register(self, **fields: Any) -> Answer:
        path = f"/v1/projects/{self.project}/devices"
        body = {"platform": "python", **fields}
        return await self.api.call("POST", path, body, X_Client_Key=self.client_key)

    async def user_of(self, device: dict[str, str]) -> str:
        path = f"/v1/projects/{self.project}/devices/{device['device_id']}"
        read = await self.api.call("GET", path, key=device["credential"])
        user: str = read.json.get("user", "")
        return user

    async def patch(self, device: dict[str, str], **fields: Any) -> Answer:
        path = f"/v1/projects/{self.project}/devices/{device['device_id']}"
        return await self.api.call("PATCH", path, fields, key=device["credential"])


@pytest.fixture
async def site(store_url: str) -> AsyncIterator[Site]:
    async with running_api(store_url) as api:
        made = await api.services.projects_service.create_project(f"{api.project}-t")
        api.key = made.api_key
        yield Site(api, made)


async def refusal(answer: Answer) -> str:
    assert (answer.status, answer.fields) == (400, ["user_token"]), answer.text
    message: str = answer.error["details"][-1]["fieldViolations"][0]["description"]
    return message


async def test_a_device_registers_for_the_user_that_its_token_names(site: Site) -> None:
    registered = await site.register(user_token=site.token(aud=site.project, iss=site.project))
    assert registered.status == 201, registered.text
    assert await site.user_of(registered.json) == "anna"
    assert (await site.patch(registered.json, user_token=site.token(sub="bob"))).status == 200
    assert await site.user_of(registered.json) == "bob"
    assert (await site.patch(registered.json, user="")).status == 200
    assert await site.user_of(registered.json) == ""


async def test_a_device_cannot_just_say_whose_it_is(site: Site) -> None:
    assert (await site.register(user="anna")).status == 403
    device = (await site.register()).json
    assert (await site.patch(device, user="anna")).status == 403
    both = await site.register(user="anna", user_token=site.token())
    assert (both.status, both.fields) == (400, ["user"])
    assert await site.user_of(device) == ""


async def test_an_app_server_may_hand_a_token_on(site: Site) -> None:
    path = f"/v1/projects/{site.project}/devices"
    body = {"platform": "x", "user_token": site.token()}
    assert (await site.api.call("POST", path, body, key=site.api.key)).status == 201


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "claims sub"),
        ({"exp": "soon"}, "claims sub"),
        ({"exp": 9e15}, "valid for too long"),
        ({"sub": None}, "claims sub"),
        ({"sub": ""}, "1 to 128 printable"),
        ({"sub": "x" * 129}, "1 to 128 printable"),
        ({"sub": "a\nb"}, "1 to 128 printable"),
        ({"aud": "other"}, "wrong project"),
        ({"aud": []}, "wrong project"),
        ({"iss": "other"}, "wrong project"),
        ({"nbf": 9e9}, "not valid yet"),
        ({"jti": ""}, "jti of 1 to 255"),
        ({"jti": "x" * 256}, "jti of 1 to 255"),
        ({"key": "pwu_" + "x" * 32}, "bad signature"),
        ({"algorithm": "HS512", "key": "x" * 64}, "signed with HS256"),
    ],
)
async def test_what_proves_nothing_is_refused_with_its_reason(
    site: Site, claims: dict[str, Any], reason: str
) -> None:
    said = await refusal(await site.register(user_token=site.token(**claims)))
    assert reason in said
    assert site.secret not in said


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "x" * 5000, "é.é.é", "{}.{}.{}"])
async def test_what_is_no_token_is_refused(site: Site, token: str) -> None:
    assert await refusal(await site.register(user_token=token)) == "is not a JWT"


async def test_a_token_without_a_signature_is_refused(site: Site) -> None:
    unsigned = jwt.encode({"sub": "anna", "exp": time.time() + 60}, "", algorithm="none")
    assert "HS256" in await refusal(await site.register(user_token=unsigned))


async def test_another_projects_secret_signs_nothing(site: Site) -> None:
    other = await site.api.services.projects_service.create_project(f"{site.project}-b")
    token = site.token(key=other.user_secret)
    assert "bad signature" in await refusal(await site.register(user_token=token))


async def test_a_token_with_an_id_is_good_for_one_use(site: Site) -> None:
    token = site.token(jti="1")
    assert (await site.register(user_token=token)).status == 201
    assert "used before" in await refusal(await site.register(user_token=token))
    assert "used before" in await refusal(await site.register(user_token=site.token(jti="1")))
    assert (await site.register(user_token=site.token(jti="2"))).status == 201
    lasting = site.token()
    for _ in range(2):
        assert (await site.register(user_token=lasting)).status == 201


async def test_a_token_that_was_used_at_its_last_moment_is_not_taken_where_a_clock_is_behind(
    site: Site,
) -> None:
    tokens, used_ms = site.api.services.user_tokens, round(time.time() * 1000)
    token = site.token(jti="1", exp=used_ms / 1000 - LEEWAY_S + 0.001)
    assert await tokens.user_of(site.project, token, "a", used_ms) == "anna"
    project_keys = await site.api.services.store.batch.call("KEYS", f"*{site.project}:jti:*")
    assert isinstance(project_keys, list)
    (key,) = project_keys
    assert isinstance(key, bytes)
    left_ms = await site.api.services.store.batch.call("PTTL", key)
    assert isinstance(left_ms, int)
    # As long as an API whose clock is behind by the leeway takes the token for valid.
    assert LEEWAY_S * 1000 - 10_000 < left_ms <= LEEWAY_S * 1000 + 1
    with pytest.raises(PushError, match="used before"):
        await tokens.user_of(site.project, token, "b", used_ms - LEEWAY_S * 1000)


async def test_a_refusal_for_another_reason_does_not_use_a_token_up(site: Site) -> None:
    token, device = site.token(jti="1"), (await site.register()).json
    taken = await site.register(user_token=token, device_id=device["device_id"])
    assert (taken.status, taken.error["status"]) == (409, "ALREADY_EXISTS")
    assert (await site.register(user_token=token, language="no such")).status == 400
    assert (await site.patch(device, user_token=token, timezone="Nowhere")).status == 400
    missing = f"/v1/projects/{site.project}/devices/{'d' * 16}"
    body = {"user_token": token}
    assert (await site.api.call("PATCH", missing, body, key=site.api.key)).status == 404
    assert (await site.patch(device, user_token=token)).status == 200


async def test_a_command_that_is_sent_again_is_no_second_use(site: Site) -> None:
    projects = site.api.services.projects
    for claim, good in (("a", True), ("a", True), ("b", False), ("a", True)):
        assert await projects.use_user_token(site.project, "hash", claim, 60_000) is good


async def test_after_a_rotation_tokens_of_both_secrets_are_taken_for_a_while(site: Site) -> None:
    path = f"/v1/projects/{site.project}/userSecret:rotate"
    old = site.secret
    rotated = await site.api.call("POST", path, {"overlap": 600}, key=site.api.key)
    assert rotated.status == 200
    assert rotated.json["user_secret"] != old
    assert "previous_until" in rotated.json
    site.secret = rotated.json["user_secret"]
    for secret in (old, site.secret):
        assert (await site.register(user_token=site.token(key=secret))).status == 201
    await site.api.call("POST", path, {"overlap": 0}, key=site.api.key)
    for secret in (old, site.secret):
        said = await refusal(await site.register(user_token=site.token(key=secret)))
        assert "bad signature" in said


async def test_rotating_takes_an_admin_key_and_sane_numbers(site: Site) -> None:
    path = f"/v1/projects/{site.project}/userSecret:rotate"
    assert (await site.api.call("POST", path, {})).status == 401
    for overlap in (-1, 604_801):
        bad = await site.api.call("POST", path, {"overlap": overlap}, key=site.api.key)
        assert (bad.status, bad.fields) == (400, ["overlap"])


async def test_a_project_without_a_secret_says_so_and_gets_one(site: Site) -> None:
    await site.api.services.projects.put_user_secrets(site.project, [])
    assert "no user secret yet" in await refusal(await site.register(user_token=site.token()))
    path = f"/v1/projects/{site.project}/userSecret:rotate"
    rotated = await site.api.call("POST", path, {}, key=site.api.key)
    assert "previous_until" not in rotated.json
    site.secret = rotated.json["user_secret"]
    assert (await site.register(user_token=site.token())).status == 201


async def test_a_device_that_registers_anew_is_whose_it_says_then(site: Site) -> None:
    device = (await site.register(user_token=site.token())).json
    path = f"/v1/projects/{site.project}/devices"
    body = {"platform": "python", "device_id": device["device_id"]}
    anew = await site.api.call("POST", path, body, key=device["credential"])
    assert anew.status == 201
    assert await site.user_of(anew.json) == ""
