"""Signed tokens for providers."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from router.policy.es256 import private_key, signed
from tests.support.bridges import ec_key, pem, rsa_key


def test_a_token_is_what_others_verify() -> None:
    token = signed({"iss": "TEAM", "iat": 1}, ec_key(), {"kid": "K"})
    assert jwt.decode(token, ec_key().public_key(), ["ES256"]) == {"iss": "TEAM", "iat": 1}
    assert jwt.get_unverified_header(token)["kid"] == "K"


def test_the_same_claims_give_the_same_token() -> None:
    made = {signed({"iat": 1}, ec_key(), {"kid": "K"}) for _ in range(3)}
    assert len(made) == 1
    assert signed({"iat": 2}, ec_key(), {"kid": "K"}) not in made


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN PRIVATE KEY-----\nAA==\n"])
def test_what_is_no_key_is_none(text: str) -> None:
    assert private_key(text) is None


def test_a_key_of_another_kind_is_none() -> None:
    assert private_key(pem(rsa_key())) is None
    assert private_key(pem(ec.generate_private_key(ec.SECP384R1()))) is None
    assert private_key(pem(ec_key())) is not None
