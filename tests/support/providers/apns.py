"""APNs on loopback: TLS, HTTP/2, and every rule of Apple's documentation."""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.providers.faults import Fault, Faults
from tests.support.providers.http2 import Answer, Call, Http2Server

STATUS_OF = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadEnvironmentKeyIdInToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}
"""Every documented reason, and the status that it comes with."""
_SUFFIX = {
    "alert": "",
    "background": "",
    "mdm": "",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "liveactivity": ".push-type.liveactivity",
    "location": ".location-query",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
}
_OURS = {"apns-id", "apns-push-type", "apns-expiration", "apns-priority", "apns-topic",
         "apns-collapse-id"}  # fmt: skip
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PATH = re.compile(r"/3/device/([^/?#]*)")
_TOKEN = re.compile(r"([0-9a-f]{2}){32,100}")


@dataclass(frozen=True, slots=True)
class Taken:
    """A push that was accepted."""

    id: str
    token: str
    headers: dict[str, str]
    payload: dict[str, Any]
    connection: int


class RefusedError(Exception):
    def __init__(self, reason: str, timestamp_ms: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.timestamp_ms = reason, timestamp_ms


class ApnsProvider:
    """Judges pushes as Apple does; `server` speaks for it.

    Args:
        public_key: of the team's token signing key.
        bundles: the apps that the team may push to.
        now_s: the clock, against which the age of tokens counts.
    """

    def __init__(
        self,
        certificate: tuple[Path, Path],
        public_key: ec.EllipticCurvePublicKey,
        *,
        team_id: str = "TEAM123456",
        key_id: str = "KEY1234567",
        bundles: frozenset[str] = frozenset({"com.example.app"}),
        now_s: Callable[[], float] = time.time,
        max_streams: int = 1000,
    ) -> None:
        self.faults = Faults()
        self.taken: list[Taken] = []
        self.refused: Counter[str] = Counter()
        self.gone: dict[str, tuple[str, int]] = {}
        """Token → reason of its 410, and since when (epoch ms)."""
        self.unknown: set[str] = set()
        """Tokens of another environment."""
        self.foreign: set[str] = set()
        """Tokens of another app."""
        self.server = Http2Server(
            certificate, self._judge, self._choose, self._refusal, max_streams=max_streams
        )
        self._key, self._team, self._key_id = public_key, team_id, key_id
        self._bundles, self._now_s = bundles, now_s
        self._known: dict[str, float] = {}
        self._newest_s = 0.0

    @property
    def ids(self) -> Counter[str]:
        """How often each apns-id was accepted."""
        return Counter(push.id for push in self.taken)

    def _choose(self, call: Call) -> Fault | None:
        return self.faults.take(call.value(":path").rpartition("/")[2])

    def _refusal(self, fault: Fault) -> Answer:
        reason = fault.reason
        self.refused[reason or str(fault.status)] += 1
        said: dict[str, object] = {"reason": reason} if reason else {}
        if fault.status == 410:
            said |= {"timestamp": int(self._now_s() * 1000)}
        body = fault.body if fault.body is not None else orjson.dumps(said)
        return Answer(fault.status, [*fault.headers.items()], body)

    def _judge(self, call: Call) -> Answer:
        given = call.value("apns-id")
        identity = [("apns-id", given)] if given else []
        try:
            push = self._check(call)
        except RefusedError as refused:
            self.refused[refused.reason] += 1
            said: dict[str, object] = {"reason": refused.reason}
            if refused.timestamp_ms:
                said["timestamp"] = refused.timestamp_ms
            return Answer(STATUS_OF[refused.reason], identity, orjson.dumps(said))
        self.taken.append(push)
        return Answer(200, [("apns-id", push.id)])

    def _check(self, call: Call) -> Taken:
        if call.value(":method") != "POST":
            raise RefusedError("MethodNotAllowed")
        if (path := _PATH.fullmatch(call.value(":path"))) is None:
            raise RefusedError("BadPath")
        token = path.group(1)
        if not token:
            raise RefusedError("MissingDeviceToken")
        names = [name for name, _ in call.headers]
        if len(names) != len(set(names)):
            raise RefusedError("DuplicateHeaders")
        self._authorize(call.value("authorization"))
        for connection in self.server.connections:
            if connection.number == call.connection:
                connection.raise_limit()
        if not _TOKEN.fullmatch(token) or token in self.unknown:
            raise RefusedError("BadDeviceToken")
        kind = self._headers(call, set(names))
        self._topic(call.value("apns-topic"), kind, token)
        payload = self._payload(bytes(call.body), kind)
        if token in self.gone:
            reason, since_ms = self.gone[token]
            raise RefusedError(reason, since_ms)
        headers = {name: value for name, value in call.headers if name in _OURS}
        return Taken(call.value("apns-id") or "made by Apple", token, headers, payload,
                     call.connection)  # fmt: skip

    def _authorize(self, value: str) -> None:
        if not value:
            raise RefusedError("MissingProviderToken")
        scheme, _, token = value.partition(" ")
        issued_s = self._known.get(token)
        now_s = self._now_s()
        if issued_s is None:
            issued_s = self._verify(token) if scheme == "bearer" else None
            if issued_s is None:
                raise RefusedError("InvalidProviderToken")
        if now_s - issued_s > 3600:
            raise RefusedError("ExpiredProviderToken")
        if token not in self._known:
            if self._newest_s and now_s - self._newest_s < 1200:
                raise RefusedError("TooManyProviderTokenUpdates")
            self._known[token], self._newest_s = issued_s, now_s

    def _verify(self, token: str) -> float | None:
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token,
                self._key,
                ["ES256"],
                options={"verify_iat": False, "require": ["iss", "iat"]},
            )
        except jwt.PyJWTError:
            return None
        fits = header.get("kid") == self._key_id and claims["iss"] == self._team
        issued_s = float(claims["iat"])
        return issued_s if fits and issued_s <= self._now_s() + 1 else None

    def _headers(self, call: Call, names: set[str]) -> str:
        """Check the headers and give the push type."""
        identifier, kind = call.value("apns-id"), call.value("apns-push-type")
        if "apns-id" in names and not _UUID.fullmatch(identifier):
            raise RefusedError("BadMessageId")
        expires = call.value("apns-expiration")
        if "apns-expiration" in names and not re.fullmatch(r"[0-9]{1,12}", expires):
            raise RefusedError("BadExpirationDate")
        if kind not in _SUFFIX:
            raise RefusedError("InvalidPushType")
        priority = call.value("apns-priority")
        if "apns-priority" in names and priority not in {"10", "5", "1"}:
            raise RefusedError("BadPriority")
        if kind == "background" and priority != "5":
            raise RefusedError("BadPriority")
        collapse = call.value("apns-collapse-id")
        if "apns-collapse-id" in names and not 0 < len(collapse.encode()) <= 64:
            raise RefusedError("BadCollapseId")
        return kind

    def _topic(self, topic: str, kind: str, token: str) -> None:
        if not topic:
            raise RefusedError("MissingTopic")
        bundle = topic.removesuffix(_SUFFIX[kind]) if topic.endswith(_SUFFIX[kind]) else ""
        if not bundle:
            raise RefusedError("BadTopic")
        if bundle not in self._bundles:
            raise RefusedError("TopicDisallowed")
        if token in self.foreign:
            raise RefusedError("DeviceTokenNotForTopic")

    @staticmethod
    def _payload(body: bytes, kind: str) -> dict[str, Any]:
        if not body:
            raise RefusedError("PayloadEmpty")
        if len(body) > (5120 if kind == "voip" else 4096):
            raise RefusedError("PayloadTooLarge")
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise RefusedError("PayloadEmpty") from None
        if not isinstance(payload, dict) or not isinstance(payload.get("aps"), dict):
            raise RefusedError("PayloadEmpty")
        aps = payload["aps"]
        shows = {"alert", "badge", "sound"} & aps.keys()
        if kind == "background" and (shows or aps.get("content-available") != 1):
            raise RefusedError("InvalidPushType")
        return payload
