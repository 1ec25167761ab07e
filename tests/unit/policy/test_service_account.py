"""The grant of RFC 7523."""

from urllib.parse import parse_qs

import jwt
import msgspec
import pytest

from router.policy.service_account import (
    ServiceAccount,
    assertion_of,
    grant_form,
    read_grant,
    rsa_key,
)
from tests.support.bridges import ec_key, fcm_credentials, pem
from tests.support.bridges import rsa_key as private

ACCOUNT = msgspec.convert(fcm_credentials()["service_account"], ServiceAccount)


def test_an_assertion_says_who_asks_whom_for_what_and_how_long() -> None:
    assertion = assertion_of(ACCOUNT, "scope", 1_000_000)
    claims = jwt.decode(
        assertion,
        private().public_key(),
        ["RS256"],
        audience=ACCOUNT.token_uri,
        options={"verify_exp": False},
    )
    assert claims == {
        "iss": ACCOUNT.client_email,
        "scope": "scope",
        "aud": ACCOUNT.token_uri,
        "iat": 970,
        "exp": 4_570,
    }
    assert jwt.get_unverified_header(assertion)["kid"] == "key-1"


def test_the_form_is_what_the_token_endpoint_takes() -> None:
    assert parse_qs(grant_form("a.b.c").decode()) == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:jwt-bearer"],
        "assertion": ["a.b.c"],
    }


def test_a_grant_is_read_and_nonsense_is_none() -> None:
    granted = read_grant(b'{"access_token":"t","expires_in":"3599","token_type":"Bearer"}')
    assert (granted.access_token, granted.expires_in) == ("t", 3599)
    assert read_grant(b'{"error":"invalid_grant"}').error == "invalid_grant"
    assert read_grant(b"<html>").access_token == ""


@pytest.mark.parametrize("text", ["", "x"])
def test_what_is_no_rsa_key_is_none(text: str) -> None:
    assert rsa_key(text) is None
    assert rsa_key(pem(ec_key())) is None


def test_a_service_account_shows_no_key() -> None:
    assert "PRIVATE" not in repr(ACCOUNT)
