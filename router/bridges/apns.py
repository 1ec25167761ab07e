"""APNs: Apple's push service, with token authentication.

Sources: Apple, "Sending notification requests to APNs", "Establishing a token-based connection to
APNs", "Generating a remote notification", "Handling notification responses from APNs".
"""

import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, ClassVar, Final, Literal

import msgspec
import orjson
from typing_extensions import override

from router.bridge import (
    ID_KEY,
    UNREADABLE,
    Address,
    Authorization,
    BadAddress,
    Bridge,
    Content,
    Credentials,
    Delivered,
    Misconfigured,
    Outcome,
    Reauthorize,
    Recipient,
    Rejected,
    Request,
    Response,
    RetryAfter,
    Scope,
    TooLarge,
    Unregistered,
    Unsendable,
    by_status,
    push_deadline,
    retry_after_s,
)
from router.model.bridge_option import Option, Takes
from router.model.errors import FieldViolation
from router.model.ids import DeviceId, MessageId
from router.model.message import Priority
from router.model.push import Push, push_uuid
from router.policy.apns_token import token_times
from router.policy.bridge_fields import COMMON, common_faults, parsed, refuse
from router.policy.es256 import private_key, signed

MAX_BYTES: Final = 4096
MAX_VOIP_BYTES: Final = 5120
MAX_COLLAPSE_BYTES: Final = 64
_PRODUCTION: Final = "https://api.push.apple.com"
_SANDBOX: Final = "https://api.sandbox.push.apple.com"

SUFFIXES: Final = {
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
"""Each push type, and what it adds to the bundle id in the topic."""
_SHOWN: Final = ("alert", "badge", "sound")
_TOKEN: Final = re.compile(r"([0-9A-Fa-f]{2}){32,100}")
_HEADERS: Final = {
    "apns-collapse-id": (re.compile(r"[ -~]{1,64}"), "1 to 64 bytes of printable ASCII"),
    "apns-expiration": (re.compile(r"[0-9]{1,12}"), "a time in seconds since the epoch, or 0"),
    "apns-priority": (re.compile(r"10|5|1"), "10, 5 or 1"),
    "apns-push-type": (re.compile("|".join(SUFFIXES)), f"one of {', '.join(SUFFIXES)}"),
    "apns-topic": (re.compile(r"[!-~]{1,256}"), "1 to 256 visible ASCII characters"),
}
"""What a sender may set in `apns.headers`; the others are the bridge's own."""


class ApnsCredentials(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key for token authentication, from Apple's developer account."""

    ACCEPTS: ClassVar[dict[str, str]] = {
        "key": "the text of the .p8 file: an unencrypted private key on P-256 in PEM",
        "key_id": "the id of the key: 10 characters A-Z and 0-9",
        "team_id": "the id of the developer team: 10 characters A-Z and 0-9",
        "topic": "the bundle id of the app: 1 to 256 visible ASCII characters",
        "sandbox": "true for development builds, else false",
        **COMMON,
    }
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        Option("--key-file", "key", Takes.FILE, "the .p8 file of the key", "F.p8", required=True),
        Option("--key-id", "key_id", Takes.TEXT, "id of the key", "K", required=True),
        Option("--team-id", "team_id", Takes.TEXT, "id of the developer team", "T", required=True),
        Option("--topic", "topic", Takes.TEXT, "bundle id of the app", "BUNDLE", required=True),
        Option("--sandbox", "sandbox", Takes.SWITCH, "for development builds"),
    )

    key: str
    key_id: Annotated[str, msgspec.Meta(pattern="^[A-Z0-9]{10}\\Z")]
    team_id: Annotated[str, msgspec.Meta(pattern="^[A-Z0-9]{10}\\Z")]
    topic: Annotated[str, msgspec.Meta(pattern="^[!-~]{1,256}\\Z")]
    sandbox: bool = False

    @override
    def shown(self) -> dict[str, str]:
        own = {"key_id": self.key_id, "team_id": self.team_id, "topic": self.topic}
        return {**own, "sandbox": str(self.sandbox).lower(), **Credentials.shown(self)}


class ApnsAddress(Address, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device token. `topic` and `sandbox` count before those of the credentials."""

    ACCEPTS: ClassVar[dict[str, str]] = {
        "type": "apns",
        "token": "the device token: 64 to 200 hexadecimal digits",
        "topic": "the bundle id of the app, or a topic with the suffix of a push type: 1 to 256 "
        "visible ASCII characters",
        "sandbox": "true for development builds, else false",
    }

    type: Literal["apns"] = "apns"
    token: Annotated[str, msgspec.Meta(pattern="^([0-9A-Fa-f]{2}){32,100}\\Z")]
    topic: Annotated[str, msgspec.Meta(pattern="^[!-~]{1,256}\\Z")] | None = None
    sandbox: bool | None = None

    @property
    @override
    def identity(self) -> str:
        return f"{self.topic or ''}|{self.token.lower()}"


class ApnsContent(Content, frozen=True):
    """Payload and headers of a message, before its device's token and topic are known."""

    body: bytes
    kind: str
    """Push type as the payload says it."""
    headers: dict[str, str]
    """What the sender set, names in lower case."""
    token: str = ""
    """Of a Live Activity: it goes there, not to the device's own token."""


REASONS: Final[Mapping[str, Outcome]] = {
    outcome.reason: outcome
    for outcome in (
        Rejected("BadCollapseId"),
        Rejected("BadExpirationDate"),
        Rejected("BadMessageId"),
        Rejected("BadPriority"),
        Rejected("DuplicateHeaders"),
        Rejected("InvalidPushType"),
        Rejected("MethodNotAllowed"),
        Rejected("PayloadEmpty"),
        Rejected("PayloadTooLarge"),
        # Topic and token come from the device: one that lies must not suspend the project.
        BadAddress("BadDeviceToken"),
        BadAddress("BadPath"),
        BadAddress("BadTopic"),
        BadAddress("DeviceTokenNotForTopic"),
        BadAddress("MissingDeviceToken"),
        BadAddress("MissingTopic"),
        BadAddress("TopicDisallowed"),
        Misconfigured("BadCertificate"),
        Misconfigured("BadCertificateEnvironment"),
        Misconfigured("BadEnvironmentKeyIdInToken"),
        Misconfigured("Forbidden"),
        Misconfigured("InvalidProviderToken"),
        Misconfigured("MissingProviderToken"),
        Misconfigured("UnrelatedKeyIdInToken"),
        Reauthorize("ExpiredProviderToken"),
        Unregistered("ExpiredToken"),
        Unregistered("Unregistered"),
        RetryAfter("IdleTimeout"),
        RetryAfter("Shutdown"),
        RetryAfter("TooManyRequests", scope=Scope.DEVICE),
        RetryAfter("TooManyProviderTokenUpdates", 60.0, Scope.AUDIENCE),
        RetryAfter("InternalServerError", scope=Scope.AUDIENCE),
        RetryAfter("ServiceUnavailable", scope=Scope.AUDIENCE),
    )
}
"""What each documented reason means; a Retry-After of the answer counts before what stands here."""
_STATUSES: Final[Mapping[int, Outcome]] = {
    HTTPStatus.GONE: Unregistered("410"),
    HTTPStatus.TOO_MANY_REQUESTS: RetryAfter("429", scope=Scope.DEVICE),
}


class _Error(msgspec.Struct, gc=False):
    reason: str = ""
    timestamp: int = 0


_error_decoder = msgspec.json.Decoder(_Error)


class Apns(Bridge[ApnsCredentials, ApnsAddress, ApnsContent]):
    """Maps to APNs."""

    name: ClassVar[str] = "apns"
    part: ClassVar[str] = "apns.payload"
    takes: ClassVar[type[Credentials]] = ApnsCredentials
    multiplexed: ClassVar[bool] = True

    @override
    def credentials(self, raw: object) -> ApnsCredentials:
        made = parsed(ApnsCredentials, raw, "")
        faults = common_faults(made.endpoint, made.ca)
        if private_key(made.key) is None:
            faults.append(("key", f"must be {made.ACCEPTS['key']}"))
        if faults:
            raise refuse("", faults)
        return made

    @override
    def address(self, raw: object) -> ApnsAddress:
        return parsed(ApnsAddress, raw, "bridge")

    @override
    def audience(self, credentials: ApnsCredentials, address: ApnsAddress | None) -> str:
        if credentials.endpoint:
            return credentials.endpoint
        told = None if address is None else address.sandbox
        return _SANDBOX if (credentials.sandbox if told is None else told) else _PRODUCTION

    @override
    def authorize(self, credentials: ApnsCredentials, audience: str, now_ms: int) -> Authorization:
        key = private_key(credentials.key)
        if key is None:
            raise ValueError("The key was checked when it was set up")
        times = token_times(now_ms)
        claims: dict[str, str | int] = {"iss": credentials.team_id, "iat": times.issued_s}
        token = signed(claims, key, {"kid": credentials.key_id})
        return Authorization(f"bearer {token}", times.next_ms, times.renew_ms, times.ends_ms)

    @override
    def content(self, push: Push) -> ApnsContent | TooLarge | Unsendable:
        own_headers = push.apns.get("headers")
        given = own_headers if isinstance(own_headers, dict) else {}
        headers = {name.lower(): str(value) for name, value in given.items()}
        faults = _header_faults(given)
        override_of = push.apns.get("payload")
        own = override_of if isinstance(override_of, dict) else {}
        if not isinstance(own.get("aps", {}), dict):
            faults.append(FieldViolation("apns.payload.aps", "must be an object"))
        if "aps" in push.data:
            faults.append(FieldViolation("data.aps", "is APNs' own key: take another"))
        token = str(push.apns.get("live_activity_token") or "")
        if token and not _TOKEN.fullmatch(token):
            says = f"must be {ApnsAddress.ACCEPTS['token']}"
            faults.append(FieldViolation("apns.live_activity_token", says))
        if faults:
            return Unsendable(tuple(faults))
        asked = headers.get("apns-push-type") or ("liveactivity" if token else "")
        payload = _payload(push, own, asked)
        body = orjson.dumps(payload)
        kind = asked or _kind(payload["aps"])
        limit = MAX_VOIP_BYTES if kind == "voip" else MAX_BYTES
        if len(body) > limit:
            return TooLarge(len(body), limit)
        return ApnsContent(push, body, kind, headers, token)

    @override
    def encode(
        self,
        content: ApnsContent,
        credentials: ApnsCredentials,
        recipient: Recipient[ApnsAddress],
        authorization: Authorization,
        now_ms: int,
        entropy: bytes = b"",
    ) -> Request:
        push, address = content.push, recipient.address
        kind, topic = _topic(content, address.topic or credentials.topic)
        set_by_sender = content.headers
        identifier = push_uuid(push.id, recipient.device)
        expires_s = 0 if push.now_or_never else -(-push.expires_ms // 1000)
        headers = [
            ("authorization", authorization.value),
            ("apns-topic", topic),
            ("apns-push-type", kind),
            ("apns-priority", set_by_sender.get("apns-priority") or _priority(push, kind)),
            ("apns-expiration", set_by_sender.get("apns-expiration") or str(expires_s)),
        ]
        collapse = set_by_sender.get("apns-collapse-id") or _collapse_id(push, kind)
        if collapse:
            headers.append(("apns-collapse-id", collapse))
        headers.append(("apns-id", identifier))
        return Request(
            "POST",
            self.audience(credentials, address),
            f"/3/device/{(content.token or address.token).lower()}",
            tuple(headers),
            content.body,
            push_deadline(push, now_ms),
            identifier,
        )

    @override
    def read(self, response: Response, now_ms: int) -> Outcome:
        if response.status == HTTPStatus.OK:
            return Delivered(response.headers.get("apns-id", ""))
        try:
            error = _error_decoder.decode(response.body)
        except UNREADABLE:
            error = _Error()
        known = REASONS.get(error.reason) or _STATUSES.get(response.status)
        outcome = known or by_status(response.status, error.reason)
        if isinstance(outcome, Unregistered):
            return Unregistered(outcome.reason, max(0, error.timestamp))
        if isinstance(outcome, RetryAfter) and (asked_s := retry_after_s(response, now_ms)):
            return RetryAfter(outcome.reason, asked_s, outcome.scope)
        return outcome

    @override
    def probe(
        self, credentials: ApnsCredentials, authorization: Authorization, now_ms: int
    ) -> Request:
        """Ask for a token that no device has: good credentials hear BadDeviceToken."""
        push = Push(MessageId("probe"), now_ms, now_ms, Priority.LOW)
        content = ApnsContent(push, b'{"aps":{"content-available":1}}', "background", {})
        nobody = Recipient(DeviceId("probe"), ApnsAddress(token="0" * 64))
        return self.encode(content, credentials, nobody, authorization, now_ms)


def _header_faults(given: dict[str, object]) -> list[FieldViolation]:
    faults = []
    for name, value in given.items():
        if (known := _HEADERS.get(name.lower())) is None:
            says = f"may not be set; accepted are {', '.join(_HEADERS)}"
        elif not known[0].fullmatch(str(value)):
            says = f"must be {known[1]}"
        else:
            continue
        faults.append(FieldViolation(f"apns.headers.{name[:64]}", says))
    return faults


def _payload(push: Push, own: dict[str, object], asked: str) -> dict[str, dict[str, object]]:
    """Put the payload together: what the sender gave in `apns.payload` goes first, key by key."""
    aps: dict[str, object] = {}
    payload: dict[str, object] = {**push.data}
    shown = push.notification
    if shown is not None and (shown.title or shown.body):
        alert = {"title": shown.title, "body": shown.body}
        aps["alert"] = {name: text for name, text in alert.items() if text}
    options = push.apns.get("fcm_options")
    image = (options.get("image") if isinstance(options, dict) else None) or (shown and shown.image)
    if image:
        # Where FCM's service extension looks for it, which then downloads and attaches it.
        payload["fcm_options"] = {"image": image}
        aps["mutable-content"] = 1
    given = own.get("aps")
    aps |= given if isinstance(given, dict) else {}
    if asked in {"", "background"} and _kind(aps) == "background":
        aps.setdefault("content-available", 1)
    return {**payload, **own, "aps": aps, ID_KEY: push.id}  # type: ignore[dict-item]


def _kind(aps: dict[str, object]) -> str:
    return "alert" if any(key in aps for key in _SHOWN) else "background"


def _topic(content: ApnsContent, topic: str) -> tuple[str, str]:
    """Give push type and topic: each tells of the other where only one of them was given."""
    bare, told = topic, ""
    for kind, suffix in SUFFIXES.items():
        if suffix and topic.endswith(suffix):
            bare, told = topic.removesuffix(suffix), kind
    explicit = content.headers.get("apns-push-type") or (content.token and content.kind)
    kind = explicit or told or content.kind
    return kind, content.headers.get("apns-topic") or bare + SUFFIXES[kind]


def _priority(push: Push, kind: str) -> str:
    """Apple refuses 10 for background; 10 is its own default for what is shown."""
    return "5" if kind == "background" or push.priority is Priority.LOW else "10"


def _collapse_id(push: Push, kind: str) -> str:
    """Give the collapse key, or what stops a repeated alert from being shown twice."""
    key = push.collapse_key
    if not key:
        return push.id if kind == "alert" else ""
    if len(key) <= MAX_COLLAPSE_BYTES and key.isascii() and key.isprintable():
        return key
    return hashlib.sha256(key.encode()).hexdigest()


BRIDGE: Final = Apns()
