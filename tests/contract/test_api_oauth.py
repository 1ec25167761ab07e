"""The JWT bearer grant: who gets a token, and why others do not."""

import base64
import json
from typing import Any

import jwt
import pytest

from gateway.api.projects_service import ServiceAccountFile
from gateway.api.resources.oauth import GOOGLE_AUDIENCE, GRANT_TYPE
from tests.contract.api_server import ADMIN_KEY, Answer, Api

FORM = {"Content_Type": "application/x-www-form-urlencoded"}


async def account_of(api: Api) -> ServiceAccountFile:
    return await api.services.projects_service.create_service_account(
        api.project, f"{api.url}/oauth2/token"
    )


def claims(api: Api, account: ServiceAccountFile, **changes: Any) -> dict[str, Any]:
    now_s = api.services.clock.now_ms() // 1000
    made: dict[str, Any] = {
        "iss": account.client_email,
        "aud": GOOGLE_AUDIENCE,
        "iat": now_s,
        "exp": now_s + 3600,
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def signed(account: ServiceAccountFile, content: dict[str, Any], kid: str | None = None) -> str:
    headers = {"kid": kid or account.private_key_id}
    return jwt.encode(content, account.private_key, algorithm="RS256", headers=headers)


async def ask(api: Api, assertion: str, grant_type: str = GRANT_TYPE) -> Answer:
    body = f"grant_type={grant_type.replace(':', '%3A')}&assertion={assertion}".encode()
    return await api.call("POST", "/oauth2/token", body, **FORM)


def refused(answer: Answer) -> str:
    assert answer.status == 400
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["error_description"]
    error: str = answer.json["error"]
    return error


async def test_a_signed_assertion_gives_a_token_that_sends(api: Api) -> None:
    account = await account_of(api)
    device = await api.device()
    for selection in (GOOGLE_AUDIENCE, account.token_uri, [account.token_uri]):
        answer = await ask(api, signed(account, claims(api, account, aud=selection)))
        assert answer.status == 200, answer.text
        assert answer.json | {"access_token": ""} == {
            "access_token": "",
            "expires_in": 3600,
            "token_type": "Bearer",
        }
        assert answer.headers["Cache-Control"] == "no-store"
        token = answer.json["access_token"]
        body = {"message": {"token": device["token"]}}
        assert (await api.call("POST", "messages:send", body, key=token)).status == 200


async def test_the_admin_makes_accounts_over_http(api: Api) -> None:
    made = await api.call("POST", "serviceAccounts", key=ADMIN_KEY)
    assert made.status == 201
    assert made.json["type"] == "service_account"
    assert made.json["token_uri"] == f"{api.url}/oauth2/token"
    assert made.json["project_id"] == api.project
    missing = await api.call("POST", "/v1/projects/no-such/serviceAccounts", key=ADMIN_KEY)
    assert missing.status == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "nobody@example.org"},
        {"iss": None},
        {"aud": "https://example.org/oauth2/token"},
        {"aud": "http://[::1"},
        {"aud": []},
        {"aud": None},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": None},
        {"iat": 99_999_999_999, "exp": 99_999_999_999},
        {"iat": None},
        {"exp": 9_999_999_999},
        {"sub": "someone@example.org"},
    ],
)
async def test_claims_that_do_not_hold_are_refused(api: Api, changes: dict[str, Any]) -> None:
    account = await account_of(api)
    answer = await ask(api, signed(account, claims(api, account, **changes)))
    assert refused(answer) == "invalid_grant"


async def test_another_key_is_refused(api: Api) -> None:
    account, other = await account_of(api), await account_of(api)
    content = claims(api, account)
    forged = jwt.encode(
        content, other.private_key, algorithm="RS256", headers={"kid": account.private_key_id}
    )
    assert refused(await ask(api, forged)) == "invalid_grant"
    assert refused(await ask(api, signed(account, content, kid="x"))) == "invalid_grant"


async def test_other_algorithms_are_refused(api: Api) -> None:
    account = await account_of(api)
    content = claims(api, account)
    found = await api.services.projects.service_account(account.client_email)
    assert found is not None
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    payload = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
    symmetric = jwt.encode(content, "k" * 32, algorithm="HS256")
    for assertion in (f"{header}.{payload}.", symmetric):
        assert refused(await ask(api, assertion)) == "invalid_grant"


@pytest.mark.parametrize(
    "assertion", ["", "x", "a.b", "a.b.c", "....", "e30.e30.e30", "%FF.%FF.%FF", "W1tb" * 500]
)
async def test_what_is_no_jwt_is_refused(api: Api, assertion: str) -> None:
    assert refused(await ask(api, assertion)) in {"invalid_grant", "invalid_request"}


async def test_deep_json_in_a_jwt_is_refused(api: Api) -> None:
    deep = base64.urlsafe_b64encode(b'{"a":' + b"[" * 4000).rstrip(b"=").decode()
    assert refused(await ask(api, f"{deep}.{deep}.x")) == "invalid_grant"


async def test_the_form_is_checked(api: Api) -> None:
    assert refused(await ask(api, "x", "password")) == "unsupported_grant_type"
    for body in (b"", b"assertion=x", b"grant_type=a&grant_type=b", b"\xff", b"a=b&" * 100):
        answer = await api.call("POST", "/oauth2/token", body, **FORM)
        assert refused(answer) == "invalid_request"
    only = f"grant_type={GRANT_TYPE}".encode()
    assert refused(await api.call("POST", "/oauth2/token", only, **FORM)) == "invalid_request"
    as_json = await api.call("POST", "/oauth2/token", {}, Content_Type="application/json")
    assert refused(as_json) == "invalid_request"


async def test_a_deleted_project_gets_no_token(api: Api) -> None:
    account = await account_of(api)
    await api.services.projects.delete(api.project)
    assert refused(await ask(api, signed(account, claims(api, account)))) == "invalid_grant"
