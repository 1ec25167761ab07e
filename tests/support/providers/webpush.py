"""A push service for browsers on loopback: RFC 8030, decrypts RFC 8291, verifies RFC 8292."""

import base64
import hmac
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import jwt
import orjson
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.providers.faults import Fault, Faults
from tests.support.providers.http1 import Http1Server

URGENCIES = {"very-low", "low", "normal", "high"}
_CURVE = ec.SECP256R1()
_VAPID = re.compile(r"vapid t=(?P<t>[\w.-]+), ?k=(?P<k>[\w-]+)")


def to_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class Taken:
    """A push that was accepted, decrypted."""

    subscription: str
    ttl_s: int
    urgency: str
    topic: str
    plain: bytes

    @property
    def payload(self) -> Any:
        return orjson.loads(self.plain)


@dataclass(slots=True)
class Browser:
    """One subscription, with the keys of its browser."""

    id: str
    endpoint: str
    server_key: str
    """`applicationServerKey`: only who holds its private half may push."""
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(_CURVE))
    auth: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    pending: dict[str, Taken] = field(default_factory=dict)
    """What waits, by topic: a later one with the same topic replaces it."""

    def to_json(self) -> dict[str, Any]:
        """What `PushSubscription.toJSON()` gives."""
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": to_base64(point), "auth": to_base64(self.auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    def decrypt(self, body: bytes) -> bytes:
        """Written from the RFCs, not with the library that the bridge uses.

        Raises:
            ValueError, InvalidTag: it was not encrypted for this subscription.
        """
        salt, rest = body[:16], body[16:]
        record, length = int.from_bytes(rest[:4], "big"), rest[4]
        sender, sealed = rest[5 : 5 + length], rest[5 + length :]
        if length != 65 or record < 18 or len(sealed) > record:
            raise ValueError("not one record of RFC 8188 with a key id of 65 bytes")
        mine = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, sender)
        shared = self.key.exchange(ec.ECDH(), theirs)
        secret = _hkdf(self.auth, shared, b"WebPush: info\0" + mine + sender, 32)
        key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
        nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
        padded = AESGCM(key).decrypt(nonce, sealed, None).rstrip(b"\0")
        if not padded.endswith(b"\2"):
            raise ValueError("no delimiter of a last record")
        return padded[:-1]


class WebpushService:
    """A push service: `async with WebpushService(certificate) as service`.

    Args:
        now_s: the clock of VAPID tokens.
        apple: whether it is as strict as Apple's: Topic without `_`, a real subject.
    """

    def __init__(
        self,
        certificate: tuple[Path, Path],
        *,
        now_s: Callable[[], float] = time.time,
        apple: bool = False,
    ) -> None:
        self.faults = Faults()
        self.taken: list[Taken] = []
        self.refused: Counter[str] = Counter()
        self.browsers: dict[str, Browser] = {}
        self.gone: set[str] = set()
        self.server = Http1Server({("POST", "/push/{id}"): self._push}, certificate)
        self._now_s, self._apple = now_s, apple

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.server.__aexit__(*exception)

    @property
    def url(self) -> str:
        return self.server.url

    def subscribe(self, server_key: str) -> Browser:
        """Make a subscription for an application server's public key (base64url)."""
        identifier = secrets.token_urlsafe(24)
        browser = Browser(identifier, f"{self.url}/push/{identifier}", server_key)
        self.browsers[identifier] = browser
        return browser

    async def _push(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()

        async def take() -> web.Response:
            return self._check(request, body)

        fault = self.faults.take(request.match_info["id"])
        return await self.server.meet(request, fault, take, self._refusal)

    def _refusal(self, fault: Fault) -> web.Response:
        return self._refuse(fault.status, fault.reason, fault.headers, fault.body)

    def _refuse(
        self,
        status: int,
        reason: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> web.Response:
        self.refused[reason or str(status)] += 1
        said = orjson.dumps({"reason": reason}) if body is None else body
        return web.Response(status=status, body=said, headers=headers)

    def _check(  # noqa: PLR0911 - one rule each
        self, request: web.Request, body: bytes
    ) -> web.Response:
        identifier = request.match_info["id"]
        browser = self.browsers.get(identifier)
        if browser is None:
            return self._refuse(404, "NoSuchSubscription")
        if identifier in self.gone:
            return self._refuse(410, "Gone")
        headers = request.headers
        if refused := self._vapid(headers.get("Authorization", ""), browser):
            return self._refuse(*refused)
        if not re.fullmatch(r"[0-9]{1,10}", headers.get("TTL", "")):
            return self._refuse(400, "BadTtl")
        topic, urgency = headers.get("Topic", ""), headers.get("Urgency", "normal")
        form = r"[A-Za-z0-9-]{1,32}" if self._apple else r"[A-Za-z0-9_-]{1,32}"
        if "Topic" in headers and not re.fullmatch(form, topic):
            return self._refuse(400, "BadWebPushTopic")
        if urgency not in URGENCIES:
            return self._refuse(400, "BadUrgency")
        if headers.get("Content-Encoding") != "aes128gcm":
            return self._refuse(400, "BadEncoding")
        if len(body) > 4096:
            return self._refuse(413, "PayloadTooLarge")
        try:
            plain = browser.decrypt(body)
        except (ValueError, InvalidTag, IndexError):
            return self._refuse(400, "Undecryptable")
        taken = Taken(identifier, int(headers["TTL"]), urgency, topic, plain)
        self.taken.append(taken)
        browser.pending[topic or str(len(self.taken))] = taken
        place = f"{self.url}/message/{len(self.taken)}"
        return web.Response(status=201, headers={"Location": place, "TTL": headers["TTL"]})

    def _vapid(self, value: str, browser: Browser) -> tuple[int, str] | None:
        if (found := _VAPID.fullmatch(value)) is None:
            return 401, "BadAuthorizationHeader"
        if found["k"] != browser.server_key:
            return 403, "VapidPkHashMismatch"
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, from_base64(found["k"]))
            claims = jwt.decode(
                found["t"],
                key,
                ["ES256"],
                audience=self.url,
                options={"verify_exp": False, "require": ["aud", "exp"]},
            )
        except (jwt.PyJWTError, ValueError):
            return 403, "BadJwtToken"
        now_s = self._now_s()
        subject = str(claims.get("sub", ""))
        real = re.fullmatch(r"(mailto:[^@\s]+@[^@\s]+|https://\S+)", subject)
        lasts = now_s < claims["exp"] <= now_s + 86_400
        return None if lasts and (real or not self._apple) else (403, "BadJwtToken")


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, for a length of one block at most."""
    pseudo_random = hmac.digest(salt, secret, "sha256")
    return hmac.digest(pseudo_random, info + b"\1", "sha256")[:length]
