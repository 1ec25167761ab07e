"""Access tokens for service accounts: the JWT bearer grant of RFC 7523."""

import base64
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import jwt
import msgspec
import orjson

from gateway.api.auth import ACCESS_TOKEN_PREFIX
from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from router.model.ids import SECRET_BYTES, new_secret, secret_hash
from router.model.project import Scope, ServiceAccount

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE_AUDIENCE: Final = "https://oauth2.googleapis.com/token"
"""google-auth writes this into every assertion, whatever the account's `token_uri` says."""
LIFETIME_S: Final = 3600
LEEWAY_S: Final = 60
PATH: Final = "/oauth2/token"
_MAX_FORM_BYTES: Final = 16_384
_GRANTED: Final = frozenset({Scope.SEND, Scope.DEVICES})
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class TokenRequest(msgspec.Struct, frozen=True):
    """The form, `application/x-www-form-urlencoded`."""

    grant_type: str
    assertion: str


class AccessToken(msgspec.Struct, frozen=True):
    """A token for `Authorization: Bearer`; `expires_in` in seconds."""

    access_token: str
    expires_in: int
    token_type: str


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    aud: str | list[str]
    exp: float
    iat: float
    sub: str | None = None


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None


class _GrantError(Exception):
    """The grant is refused; `error` is RFC 6749's word for it."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


_claims_decoder = msgspec.json.Decoder(_Claims)
_header_decoder = msgspec.json.Decoder(_Header)


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    return [
        Route(
            "POST",
            PATH,
            _Handlers(services).token,
            "Exchange a service account's signed assertion for an access token (RFC 7523).",
            Access.OPEN,
            TokenRequest,
            AccessToken,
            detail="A form. Errors have the shape of RFC 6749: `error`, `error_description`.",
        )
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._projects = services.projects
        self._entropy = services.entropy

    async def token(self, call: Call) -> Reply:
        body = await call.body(_MAX_FORM_BYTES)
        try:
            account = await self._verified(_assertion(call, body), call)
        except _GrantError as refused:
            return Reply(
                orjson.dumps({"error": refused.error, "error_description": refused.description}),
                400,
                headers=_NO_STORE,
            )
        secret = ACCESS_TOKEN_PREFIX + new_secret(self._entropy.bytes(SECRET_BYTES))
        await self._projects.put_access_token(
            secret_hash(secret), account.project, _GRANTED, LIFETIME_S
        )
        answer = reply(AccessToken(secret, LIFETIME_S, "Bearer"))
        answer.extra = _NO_STORE
        return answer

    async def _verified(self, assertion: str, call: Call) -> ServiceAccount:
        """Give the account that signed.

        Raises:
            _GrantError: the assertion does not prove it.
        """
        header, claims = _parts(assertion)
        if header.alg != "RS256":
            raise _invalid("The assertion must be signed with RS256.")
        account = await self._projects.service_account(claims.iss)
        if account is None or header.kid not in {None, account.key_id}:
            raise _invalid("iss or kid names no service account key of this gateway.")
        if await self._projects.get(account.project) is None:
            raise _invalid("The project of the service account was deleted.")
        try:
            jwt.decode(
                assertion,
                account.public_key_pem,
                algorithms=["RS256"],
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _invalid("The signature does not match the account's key.") from error
        _check_claims(claims, call)
        return account


def _assertion(call: Call, body: bytes) -> str:
    if call.request.content_type != "application/x-www-form-urlencoded":
        raise _GrantError("invalid_request", "Send a form (application/x-www-form-urlencoded).")
    try:
        fields = parse_qsl(body.decode("ascii"), max_num_fields=20)
    except ValueError as error:
        raise _GrantError("invalid_request", "The form cannot be read.") from error
    form = dict(fields)
    if len(form) != len(fields):
        raise _GrantError("invalid_request", "A parameter is given twice.")
    if "grant_type" not in form:
        raise _GrantError("invalid_request", "grant_type is missing.")
    if form["grant_type"] != GRANT_TYPE:
        raise _GrantError("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}.")
    if "assertion" not in form:
        raise _GrantError("invalid_request", "assertion is missing.")
    return form["assertion"]


def _parts(assertion: str) -> tuple[_Header, _Claims]:
    pieces = assertion.split(".")
    if len(pieces) != 3:  # noqa: PLR2004 - header, claims, signature (RFC 7515)
        raise _invalid("The assertion is not a JWT.")
    try:
        header = _header_decoder.decode(_base64(pieces[0]))
        claims = _claims_decoder.decode(_base64(pieces[1]))
    except (ValueError, RecursionError) as error:
        raise _invalid("The assertion must hold alg, iss, aud, exp and iat.") from error
    return header, claims


def _base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _check_claims(claims: _Claims, call: Call) -> None:
    now_s = call.now_ms / 1000
    if claims.sub not in {None, claims.iss}:
        raise _invalid("sub must be the service account itself.")
    selections = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if not any(_is_ours(selection, call) for selection in selections):
        raise _invalid(f"aud must be this gateway's {PATH} or {GOOGLE_AUDIENCE}.")
    if claims.exp <= now_s - LEEWAY_S:
        raise _invalid("The assertion has expired; check this machine's clock.")
    if claims.iat > now_s + LEEWAY_S:
        raise _invalid("iat is in the future; check this machine's clock.")
    if claims.exp - claims.iat > LIFETIME_S + LEEWAY_S:
        raise _invalid("The assertion may be valid for one hour at the most.")


def _is_ours(selection: str, call: Call) -> bool:
    if selection == GOOGLE_AUDIENCE:
        return True
    try:
        url = urlsplit(selection)
    except ValueError:
        return False
    return (
        url.scheme in {"http", "https"}
        and url.netloc == call.header("Host")
        and url.path == PATH
        and not url.query
    )


def _invalid(description: str) -> _GrantError:
    return _GrantError("invalid_grant", description)
