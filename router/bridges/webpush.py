"""Web Push: browsers, each through the push service that its subscription names.

Sources: RFC 8030 (Web Push), RFC 8188 and RFC 8291 (encryption), RFC 8292 (VAPID); the pages of
Mozilla's autopush, of Apple's "Sending web push notifications" and of Microsoft's WNS for statuses.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec
import orjson
from msgspec import Meta
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
    dedupe_tag,
    push_deadline,
    retry_after_s,
)
from router.model.bridge_option import Option, Takes
from router.model.errors import FieldViolation
from router.model.message import Priority
from router.model.push import Push
from router.policy.bridge_fields import COMMON, common_faults, parsed, refuse
from router.policy.destinations import url_violation
from router.policy.es256 import signed
from router.policy.frame import shown
from router.policy.webpush_keys import (
    KEY_BYTES,
    MAX_PLAIN_BYTES,
    SALT_BYTES,
    SubscriptionKeys,
    encrypted,
    is_auth,
    is_point,
    key_of,
    new_private_key,
    public_key,
)

NOBODY: Final = "mailto:nobody@example.com"
"""Where a project gives no subject: Apple's and Mozilla's services refuse a push without any."""
_DAY_MS: Final = 86_400_000
_TOPIC_DIGEST_BYTES: Final = 20
_TOPIC: Final = re.compile(r"[A-Za-z0-9-]{1,32}")
_HEADERS: Final = {
    "topic": (re.compile(r"[A-Za-z0-9_-]{1,32}"), "1 to 32 characters of a-z, A-Z, 0-9, - and _"),
    "ttl": (re.compile(r"[0-9]{1,12}"), "whole seconds"),
    "urgency": (re.compile(r"very-low|low|normal|high"), "very-low, low, normal or high"),
}
"""What a sender may set in `webpush.headers`; the others are the bridge's own."""
_URGENCY: Final = {
    Priority.CRITICAL: "high",
    Priority.HIGH: "high",
    Priority.NORMAL: "normal",
    Priority.LOW: "low",
}


class WebpushCredentials(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key pair that a project signs with (VAPID), and whom push services may ask about it."""

    ACCEPTS: ClassVar[dict[str, str]] = {
        "private_key": "a private key on P-256: 32 bytes in base64url",
        "subject": "a mailto: address or an https: URL where you are reached, not of localhost",
        "rotate_keys": "true for new keys: subscriptions made with those before end",
        **COMMON,
    }
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        Option("--subject", "subject", Takes.TEXT, "where you are reached", "mailto:…"),
        Option(
            "--private-key-file", "private_key", Takes.FILE, "a VAPID key that you have", "FILE"
        ),
        Option(
            "--rotate-keys", "rotate_keys", Takes.SWITCH, "new keys: all subscriptions are lost"
        ),
    )

    private_key: str
    subject: Annotated[str, Meta(pattern="^(mailto:[!-~]+@[!-~]+\\.[!-~]+|https://[!-~]+)\\Z")]

    @override
    def shown(self) -> dict[str, str]:
        own = {"subject": self.subject, "public_key": public_key(self.private_key)}
        return {**own, **Credentials.shown(self)}

    @override
    def public(self) -> dict[str, str]:
        return {"public_key": public_key(self.private_key)}

    @override
    def advice(self) -> str:
        if self.subject != NOBODY:
            return ""
        return "Give a subject: push services block whom they cannot ask about what he sends."


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """What `PushSubscription.toJSON()` gives in the browser; other members are ignored."""

    endpoint: Annotated[str, Meta(pattern="^https://[!-~]{1,1500}\\Z")]
    keys: SubscriptionKeys


class WebpushAddress(Address, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription that was made with the project's public key."""

    ACCEPTS: ClassVar[dict[str, str]] = {
        "type": "webpush",
        "subscription": "the object that PushSubscription.toJSON() gives",
        "subscription.endpoint": "an https URL with a host, without user and fragment, of up to "
        "1500 characters",
        "subscription.keys": "an object with p256dh and auth",
        "subscription.keys.p256dh": "an uncompressed point on P-256: 65 bytes in base64url",
        "subscription.keys.auth": "16 bytes in base64url",
    }

    type: Literal["webpush"] = "webpush"
    subscription: Subscription

    @property
    @override
    def identity(self) -> str:
        return self.subscription.endpoint

    @property
    @override
    def named_url(self) -> tuple[str, str]:
        return "subscription.endpoint", self.subscription.endpoint


class WebpushContent(Content, frozen=True):
    """The plaintext of a message, and its headers."""

    plain: bytes
    headers: dict[str, str]
    """What the sender set, names in lower case."""


STATUSES: Final[Mapping[int, Outcome]] = {
    # Each of these may be the doing of one subscription: its host is chosen by the device.
    HTTPStatus.UNAUTHORIZED: BadAddress("401"),
    HTTPStatus.FORBIDDEN: BadAddress("403"),
    HTTPStatus.NOT_FOUND: Unregistered("404"),
    HTTPStatus.NOT_ACCEPTABLE: RetryAfter("406", scope=Scope.AUDIENCE),
    HTTPStatus.GONE: Unregistered("410"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Rejected("413"),
    HTTPStatus.TOO_MANY_REQUESTS: RetryAfter("429", scope=Scope.DEVICE),
}
"""What the statuses mean that RFC 8030 and the push services name; the others: `by_status`."""
REASONS: Final[Mapping[str, Outcome]] = {
    "BadJwtToken": Misconfigured("BadJwtToken"),
    "VapidPkHashMismatch": BadAddress("VapidPkHashMismatch"),
    "BadAuthorizationHeader": Misconfigured("BadAuthorizationHeader"),
}
"""What Apple says in the body, more exactly than by the status."""


class _Error(msgspec.Struct, gc=False):
    reason: str = ""


_error_decoder = msgspec.json.Decoder(_Error)


class Webpush(Bridge[WebpushCredentials, WebpushAddress, WebpushContent]):
    """Maps to the push services of browsers."""

    name: ClassVar[str] = "webpush"
    part: ClassVar[str] = "webpush"
    takes: ClassVar[type[Credentials]] = WebpushCredentials
    foreign_hosts: ClassVar[bool] = True
    entropy_bytes: ClassVar[int] = SALT_BYTES + KEY_BYTES

    @override
    def credentials(self, raw: object) -> WebpushCredentials:
        made = parsed(WebpushCredentials, raw, "")
        faults = common_faults(made.endpoint, made.ca)
        if key_of(made.private_key) is None:
            faults.append(("private_key", f"must be {made.ACCEPTS['private_key']}"))
        if "localhost" in made.subject:
            # Apple's push service answers 403 BadJwtToken to it.
            faults.append(("subject", f"must be {made.ACCEPTS['subject']}"))
        if faults:
            raise refuse("", faults)
        return made

    @override
    def completed(
        self, raw: dict[str, object], before: WebpushCredentials | None, entropy: bytes
    ) -> object:
        """Keep key and subject where none is given; the first key is made here."""
        rotate = raw.get("rotate_keys", False)
        if not isinstance(rotate, bool):
            raise refuse("", [("rotate_keys", "must be true or false")])
        kept = {} if before is None or rotate else {"private_key": before.private_key}
        subject = NOBODY if before is None else before.subject
        made = {"private_key": new_private_key(entropy), "subject": subject, **kept, **raw}
        made.pop("rotate_keys", None)
        return made

    @override
    def address(self, raw: object) -> WebpushAddress:
        made = parsed(WebpushAddress, raw, "bridge")
        subscription = made.subscription
        checks = {
            "subscription.endpoint": not url_violation(subscription.endpoint, allow_private=True),
            "subscription.keys.p256dh": is_point(subscription.keys.p256dh),
            "subscription.keys.auth": is_auth(subscription.keys.auth),
        }
        faults = [
            (field, f"must be {made.ACCEPTS[field]}") for field, ok in checks.items() if not ok
        ]
        if faults:
            raise refuse("bridge", faults)
        return made

    @override
    def audience(self, credentials: WebpushCredentials, address: WebpushAddress | None) -> str:
        if address is None:
            return credentials.endpoint
        parts = urlsplit(address.subscription.endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    @override
    def authorize(
        self, credentials: WebpushCredentials, audience: str, now_ms: int
    ) -> Authorization:
        """Sign for half a day to a day, the longest that RFC 8292 allows."""
        key = key_of(credentials.private_key)
        if key is None:
            raise ValueError("The key was checked when it was set up")
        half = _DAY_MS // 2
        begun_ms = now_ms // half * half
        ends_ms = begun_ms + _DAY_MS - 600_000
        claims: dict[str, str | int] = {
            "aud": audience,
            "exp": ends_ms // 1000,
            "sub": credentials.subject,
        }
        token = signed(claims, key, {"typ": "JWT"})
        value = f"vapid t={token},k={public_key(credentials.private_key)}"
        return Authorization(value, begun_ms + half, begun_ms + half, ends_ms)

    @override
    def content(self, push: Push) -> WebpushContent | TooLarge | Unsendable:
        given = push.webpush.get("headers") or {}
        given = given if isinstance(given, dict) else {}
        headers = {name.lower(): str(value) for name, value in given.items()}
        if faults := _header_faults(given):
            return Unsendable(tuple(faults))
        plain = orjson.dumps(_payload(push))
        if len(plain) > MAX_PLAIN_BYTES:
            return TooLarge(len(plain), MAX_PLAIN_BYTES)
        return WebpushContent(push, plain, headers)

    @override
    def encode(
        self,
        content: WebpushContent,
        credentials: WebpushCredentials,
        recipient: Recipient[WebpushAddress],
        authorization: Authorization,
        now_ms: int,
        entropy: bytes = b"",
    ) -> Request:
        push, subscription = content.push, recipient.address.subscription
        headers = [
            ("authorization", authorization.value),
            ("content-encoding", "aes128gcm"),
            ("content-type", "application/octet-stream"),
            ("urgency", content.headers.get("urgency") or _URGENCY[push.priority]),
            ("ttl", str(_ttl_s(content, now_ms))),
        ]
        topic = content.headers.get("topic") or _topic(push.collapse_key)
        if topic:
            headers.append(("topic", topic))
        parts = urlsplit(subscription.endpoint)
        return Request(
            "POST",
            credentials.endpoint or f"{parts.scheme}://{parts.netloc}",
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            tuple(headers),
            encrypted(content.plain, subscription.keys, entropy),
            push_deadline(push, now_ms),
        )

    @override
    def read(self, response: Response, now_ms: int) -> Outcome:
        if response.status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
            return Delivered(response.headers.get("location", ""))
        try:
            reason = _error_decoder.decode(response.body).reason
        except UNREADABLE:
            reason = ""
        known = REASONS.get(reason) or STATUSES.get(response.status)
        outcome = known or by_status(response.status, reason)
        if isinstance(outcome, RetryAfter) and (asked_s := retry_after_s(response, now_ms)):
            return RetryAfter(outcome.reason, asked_s, outcome.scope)
        return outcome


def _header_faults(given: dict[str, object]) -> list[FieldViolation]:
    faults = []
    for name, value in given.items():
        if (known := _HEADERS.get(name.lower())) is None:
            says = "may not be set; accepted are TTL, Urgency and Topic"
        elif not known[0].fullmatch(str(value)):
            says = f"must be {known[1]}"
        else:
            continue
        faults.append(FieldViolation(f"webpush.headers.{name[:64]}", says))
    return faults


def _payload(push: Push) -> dict[str, object]:
    """Put together what the service worker reads, as FCM writes it."""
    own = push.webpush
    payload: dict[str, object] = {ID_KEY: push.id}
    given = own.get("notification")
    notification: dict[str, object] = {}
    if push.notification is not None:
        notification |= shown(push.notification)
    notification |= given if isinstance(given, dict) else {}
    if notification:
        payload["notification"] = {"tag": dedupe_tag(push.id), **notification}
    data = own.get("data")
    if data := (data if isinstance(data, dict) else push.data):
        payload["data"] = data
    options = own.get("fcm_options")
    if isinstance(options, dict) and options.get("link"):
        payload["fcm_options"] = {"link": options["link"]}
    return payload


def _ttl_s(content: WebpushContent, now_ms: int) -> int:
    """Give what is left of the message, or of the shorter TTL that the sender set."""
    push = content.push
    left_s = push.remaining_s(now_ms)
    if (given := content.headers.get("ttl")) is None:
        return left_s
    return max(0, min(left_s, int(given) - max(0, now_ms - push.sent_ms) // 1000))


def _topic(collapse_key: str) -> str:
    """Give a collapse key as Topic: Apple refuses `_`, and no service takes more than 32."""
    if not collapse_key or _TOPIC.fullmatch(collapse_key):
        return collapse_key
    digest = hashlib.sha256(collapse_key.encode()).digest()[:_TOPIC_DIGEST_BYTES]
    return base64.b32encode(digest).decode().lower()


BRIDGE: Final = Webpush()
