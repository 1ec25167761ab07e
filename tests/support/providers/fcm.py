"""FCM on loopback: the token endpoint of Google's OAuth, and HTTP v1 with every error."""

import itertools
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jwt
import msgspec
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.api.fcm_model import SendBody
from tests.support.providers.faults import Fault, Faults
from tests.support.providers.http1 import Http1Server

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
"""What google-auth writes into its assertion whatever `token_uri` says."""
_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
STATUS_OF = {
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED"),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED"),
    "UNREGISTERED": (404, "NOT_FOUND"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED"),
    "INTERNAL": (500, "INTERNAL"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
}
"""Every documented errorCode, with HTTP status and google.rpc.Code."""
_OURS = ("user", "group", "ttl", "collapse_key", "priority", "send_at", "receipts", "bridge",
         "after")  # fmt: skip
_RESERVED = re.compile(r"from|message_type|(google|gcm).*")


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was accepted."""

    name: str
    token: str
    message: dict[str, Any]


class FcmProvider:
    """A Firebase project: `async with FcmProvider(…) as fcm`.

    Args:
        public_key: of the service account.
        now_s: the clock of access tokens.
        token_s: how long an access token lasts.
    """

    def __init__(
        self,
        public_key: rsa.RSAPublicKey,
        *,
        project: str = "firebase-demo",
        email: str = "sender@firebase-demo.iam.gserviceaccount.com",
        now_s: Callable[[], float] = time.time,
        token_s: int = 3600,
    ) -> None:
        self.faults, self.token_faults = Faults(), Faults()
        self.taken: list[Taken] = []
        self.refused: Counter[str] = Counter()
        self.grants = 0
        self.unregistered: set[str] = set()
        self.foreign: set[str] = set()
        """Tokens of another sender."""
        self.server = Http1Server(
            {
                ("POST", "/token"): self._token,
                ("POST", "/v1/projects/{project}/messages:send"): self._send,
            }
        )
        self._key, self._project, self._email = public_key, project, email
        self._now_s, self._token_s = now_s, token_s
        self._tokens: dict[str, float] = {}
        self._number = itertools.count(1)

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.server.__aexit__(*exception)

    @property
    def url(self) -> str:
        return self.server.url

    def revoke(self) -> None:
        """Let every access token be over."""
        self._tokens.clear()

    def service_account(self, private_key_pem: str) -> dict[str, str]:
        """The key file of the service account."""
        return {
            "type": "service_account",
            "project_id": self._project,
            "private_key_id": "key-1",
            "private_key": private_key_pem,
            "client_email": self._email,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }

    async def _token(self, request: web.Request) -> web.StreamResponse:
        async def take() -> web.Response:
            return self._grant(await request.read(), request.content_type)

        def refusal(fault: Fault) -> web.Response:
            said = fault.body or orjson.dumps({"error": fault.reason})
            return web.Response(status=fault.status, body=said, headers=fault.headers)

        return await self.server.meet(request, self.token_faults.take(""), take, refusal)

    def _grant(self, body: bytes, content_type: str) -> web.Response:
        form = dict(pair.split("=", 1) for pair in body.decode().split("&") if "=" in pair)
        unquoted = {name: value.replace("%3A", ":") for name, value in form.items()}
        if (
            content_type != "application/x-www-form-urlencoded"
            or unquoted.get("grant_type") != GRANT
        ):
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        try:
            claims = jwt.decode(
                unquoted.get("assertion", ""),
                self._key,
                ["RS256"],
                audience=[f"{self.url}/token", GOOGLE_AUDIENCE],
                options={
                    "verify_iat": False,
                    "verify_exp": False,
                    "require": ["iss", "aud", "iat", "exp", "scope"],
                },
            )
        except jwt.PyJWTError:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now_s = self._now_s()
        in_time = claims["iat"] <= now_s < claims["exp"] <= claims["iat"] + 3600
        if claims["iss"] != self._email or not in_time or SCOPE not in claims["scope"].split():
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.grants += 1
        token = f"ya29.{secrets.token_urlsafe(64)}"
        self._tokens[token] = now_s + self._token_s
        said = {"access_token": token, "expires_in": self._token_s, "token_type": "Bearer"}
        return web.json_response(said)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            token = orjson.loads(body)["message"]["token"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            token = ""

        async def take() -> web.Response:
            return self._check(request, body)

        return await self.server.meet(request, self.faults.take(token), take, self._refusal)

    def _refusal(self, fault: Fault) -> web.Response:
        self.refused[fault.reason or str(fault.status)] += 1
        if fault.body is not None:
            return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
        return _error(fault.reason, headers=fault.headers)

    def _refuse(self, code: str, field: str = "", says: str = "") -> web.Response:
        self.refused[code] += 1
        return _error(code, field, says)

    def _check(  # noqa: PLR0911 - one rule each
        self, request: web.Request, body: bytes
    ) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or self._tokens.get(token, 0) <= self._now_s():
            self.refused["UNAUTHENTICATED"] += 1
            return _bare(401, "UNAUTHENTICATED")
        if request.match_info["project"] != self._project:
            self.refused["PERMISSION_DENIED"] += 1
            return _bare(403, "PERMISSION_DENIED")
        if request.content_type != "application/json":
            return self._refuse("INVALID_ARGUMENT", "", "not JSON")
        try:
            parsed = msgspec.json.decode(body, type=SendBody)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return self._refuse("INVALID_ARGUMENT", "message", str(error))
        message = orjson.loads(body)["message"]
        if wrong := _fault_of(message):
            return self._refuse("INVALID_ARGUMENT", *wrong)
        target = message.get("token", "")
        if target in self.unregistered:
            return self._refuse("UNREGISTERED")
        if target in self.foreign:
            return self._refuse("SENDER_ID_MISMATCH")
        if parsed.validate_only:
            name = f"projects/{self._project}/messages/fake_message_id"
            return web.json_response({"name": name})
        name = f"projects/{self._project}/messages/0:{next(self._number)}"
        self.taken.append(Taken(name, target, message))
        return web.json_response({"name": name})


def _fault_of(  # noqa: PLR0911 - one rule each
    message: dict[str, Any],
) -> tuple[str, str] | None:
    """What FCM refuses beyond the form of the fields."""
    for name in _OURS:
        if name in message:
            return f"message.{name}", "Cannot find field."
    targets = [name for name in ("token", "topic", "condition") if message.get(name)]
    if len(targets) != 1:
        return "message", "Exactly one of token, topic or condition is required"
    if not re.fullmatch(r"[A-Za-z0-9_:.-]{20,}", message.get("token", "x" * 20)):
        return "message.token", "The registration token is not a valid FCM registration token"
    for key in message.get("data", {}):
        if _RESERVED.fullmatch(key):
            return f"message.data[{key}]", "Invalid data payload key"
    ttl = message.get("android", {}).get("ttl", "0s")
    if float(ttl[:-1]) > 2_419_200:
        return "message.android.ttl", "Invalid TTL"
    payload = {name: message[name] for name in ("notification", "data") if name in message}
    if sum(len(orjson.dumps(part)) for part in payload.values()) > 4096:
        return "message", "Message too big"
    return None


def _error(
    code: str, field: str = "", says: str = "", headers: dict[str, str] | None = None
) -> web.Response:
    status, name = STATUS_OF[code]
    details: list[dict[str, object]] = [{"@type": _FCM_ERROR, "errorCode": code}]
    if field:
        found = [{"field": field, "description": says}]
        details.append({"@type": _BAD_REQUEST, "fieldViolations": found})
    said = {"code": status, "message": says or code, "status": name, "details": details}
    return web.json_response({"error": said}, status=status, headers=headers)


def _bare(status: int, name: str) -> web.Response:
    """An error of Google's front, which knows nothing of FCM."""
    said = {"error": {"code": status, "message": name, "status": name}}
    return web.json_response(said, status=status)
