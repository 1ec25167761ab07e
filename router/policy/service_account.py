"""Access tokens of Google for a service account: the grant of RFC 7523, pure.

google-auth does the same and sends the request itself, each time another one; here who calls sends.
"""

from typing import Annotated, Final
from urllib.parse import urlencode

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Meta
from typing_extensions import override

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_HOUR_S: Final = 3600
_LEEWAY_S: Final = 30
"""How far our clock may be ahead of the token endpoint's."""


class ServiceAccount(msgspec.Struct, frozen=True):
    """What is read of Google's JSON file."""

    project_id: Annotated[str, Meta(pattern="^[a-z0-9.:-]{4,100}\\Z")]
    client_email: Annotated[str, Meta(pattern="^[!-~]{3,320}\\Z")]
    private_key: str
    token_uri: Annotated[str, Meta(pattern="^https?://[!-~]{1,500}\\Z")]
    private_key_id: Annotated[str, Meta(pattern="^[!-~]{0,100}\\Z")] = ""

    @override
    def __repr__(self) -> str:
        return "<ServiceAccount>"


class Grant(msgspec.Struct, gc=False):
    """An answer of a token endpoint: a token for `expires_in` seconds, or an error's code."""

    access_token: str = ""
    expires_in: float = _HOUR_S
    error: str = ""


_decoder = msgspec.json.Decoder(Grant, strict=False)


def assertion_of(account: ServiceAccount, scope: str, now_ms: int) -> str:
    """Sign the assertion that is exchanged for a token.

    Raises:
        ValueError: the account's key is none (`rsa_key`).
    """
    key = rsa_key(account.private_key, checked=True)
    if key is None:
        raise ValueError("The key was checked when it was set up")
    issued_s = now_ms // 1000 - _LEEWAY_S
    claims = {
        "iss": account.client_email,
        "scope": scope,
        "aud": account.token_uri,
        "iat": issued_s,
        "exp": issued_s + _HOUR_S,
    }
    headers = {"kid": account.private_key_id} if account.private_key_id else None
    return jwt.encode(claims, key, "RS256", headers=headers)


def grant_form(assertion: str) -> bytes:
    """Write the body of the request for a token."""
    return urlencode({"grant_type": _GRANT, "assertion": assertion}).encode()


def read_grant(body: bytes) -> Grant:
    """Read the answer; what is none has neither token nor error."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Grant()


def rsa_key(pem: str, *, checked: bool = False) -> RSAPrivateKey | None:
    """Read an unencrypted RSA private key from PEM, or give None.

    Args:
        pem: its text.
        checked: it was read before: it is not checked for being sound, which takes 40 ms.
    """
    try:
        key = load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=checked)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPrivateKey) else None
