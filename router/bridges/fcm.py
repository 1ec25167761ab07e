"""FCM: Firebase Cloud Messaging, HTTP v1, with a service account.

Sources: Firebase, "REST Resource: projects.messages", "ErrorCode", "Scale message sending"; RFC
7523 for the grant.
"""

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
    dedupe_tag,
    push_deadline,
    retry_after_s,
)
from router.model.bridge_option import Option, Takes
from router.model.message import Priority
from router.model.push import Push
from router.policy.bridge_fields import COMMON, common_faults, parsed, refuse
from router.policy.frame import shown
from router.policy.service_account import (
    ServiceAccount,
    assertion_of,
    grant_form,
    read_grant,
    rsa_key,
)

MAX_BYTES: Final = 4096
MAX_COLLAPSE_BYTES: Final = 64
_ORIGIN: Final = "https://fcm.googleapis.com"
_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_AHEAD_S: Final = 600
"""A token is renewed so long before its end: an outage of the token endpoint may last that long."""
_LONGEST_S: Final = 86_400
"""No access token counts for longer, whatever its endpoint says."""
_GRANT_MS: Final = 30_000
_QUOTA_S: Final = 60.0
"""What Firebase asks for where an answer of 429 has no Retry-After."""
_JSON: Final = ("content-type", "application/json")
_DURATION: Final = re.compile(r"([0-9]{1,12})(\.[0-9]{1,9})?s")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")

JsonObject = dict[str, object]


class FcmCredentials(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service account with the role to send messages."""

    ACCEPTS: ClassVar[dict[str, str]] = {
        "service_account": "the JSON object of a service account's key file",
        "service_account.project_id": "the id of the Firebase project",
        "service_account.client_email": "the e-mail address of the service account",
        "service_account.private_key": "an unencrypted RSA private key in PEM",
        "service_account.token_uri": "the http(s) URL that grants access tokens",
        "service_account.private_key_id": "the id of the key: up to 100 visible ASCII characters",
        **COMMON,
    }
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        Option(
            "--service-account",
            "service_account",
            Takes.JSON_FILE,
            "key file of a service account",
            "F.json",
            required=True,
        ),
    )

    service_account: ServiceAccount

    @override
    def shown(self) -> dict[str, str]:
        account = self.service_account
        own = {"project_id": account.project_id, "client_email": account.client_email}
        return {**own, **Credentials.shown(self)}


class FcmAddress(Address, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A registration token of Firebase."""

    ACCEPTS: ClassVar[dict[str, str]] = {
        "type": "fcm",
        "token": "the registration token: 20 to 4096 characters of a-z, A-Z, 0-9 and -_:.",
    }

    type: Literal["fcm"] = "fcm"
    token: Annotated[str, Meta(pattern="^[A-Za-z0-9_:.-]{20,4096}\\Z")]

    @property
    @override
    def identity(self) -> str:
        return self.token


class FcmContent(Content, frozen=True):
    """The message of FCM v1, without token and times."""

    message: JsonObject
    ttl_s: int | None
    """What the sender gave Android, in seconds from `sent_ms`."""
    web_ttl_s: int | None


class _Detail(msgspec.Struct, gc=False):
    error_code: str = msgspec.field(default="", name="errorCode")
    field_violations: list[dict[str, str]] = msgspec.field(
        default_factory=list, name="fieldViolations"
    )


class _Error(msgspec.Struct, gc=False):
    status: str = ""
    message: str = ""
    details: list[_Detail] = []


class _Answer(msgspec.Struct, gc=False):
    name: str = ""
    error: _Error = msgspec.field(default_factory=_Error)


_answer_decoder = msgspec.json.Decoder(_Answer, strict=False)

CODES: Final[Mapping[str, Outcome]] = {
    "INVALID_ARGUMENT": Rejected("INVALID_ARGUMENT"),
    # Of the devices behind this project's FCM only those of Apple or of browsers suffer.
    "THIRD_PARTY_AUTH_ERROR": Misconfigured("THIRD_PARTY_AUTH_ERROR", suspend=False),
    "SENDER_ID_MISMATCH": BadAddress("SENDER_ID_MISMATCH"),
    "UNREGISTERED": Unregistered("UNREGISTERED"),
    "QUOTA_EXCEEDED": RetryAfter("QUOTA_EXCEEDED", _QUOTA_S, Scope.AUDIENCE),
    "INTERNAL": RetryAfter("INTERNAL"),
    "UNAVAILABLE": RetryAfter("UNAVAILABLE", scope=Scope.AUDIENCE),
}
"""What each errorCode means; a Retry-After of the answer counts before what stands here."""
STATUSES: Final[Mapping[str, Outcome]] = {
    "INVALID_ARGUMENT": CODES["INVALID_ARGUMENT"],
    "UNAUTHENTICATED": Reauthorize("UNAUTHENTICATED"),
    "PERMISSION_DENIED": Misconfigured("PERMISSION_DENIED"),
    "NOT_FOUND": Misconfigured("NOT_FOUND"),
    "RESOURCE_EXHAUSTED": CODES["QUOTA_EXCEEDED"],
    "INTERNAL": CODES["INTERNAL"],
    "UNAVAILABLE": CODES["UNAVAILABLE"],
    "DEADLINE_EXCEEDED": RetryAfter("DEADLINE_EXCEEDED"),
}
"""The same by status, where an answer has no errorCode: it comes from Google's front, not FCM."""


class Fcm(Bridge[FcmCredentials, FcmAddress, FcmContent]):
    """Maps to FCM."""

    name: ClassVar[str] = "fcm"
    takes: ClassVar[type[Credentials]] = FcmCredentials
    device_per_minute: ClassVar[int] = 240
    project_per_minute: ClassVar[int] = 600_000

    @override
    def credentials(self, raw: object) -> FcmCredentials:
        made = parsed(FcmCredentials, raw, "")
        faults = common_faults(made.endpoint, made.ca)
        if rsa_key(made.service_account.private_key) is None:
            field = "service_account.private_key"
            faults.append((field, f"must be {made.ACCEPTS[field]}"))
        if faults:
            raise refuse("", faults)
        return made

    @override
    def address(self, raw: object) -> FcmAddress:
        return parsed(FcmAddress, raw, "bridge")

    @override
    def audience(self, credentials: FcmCredentials, address: FcmAddress | None) -> str:
        return credentials.endpoint or _ORIGIN

    @override
    def authorize(self, credentials: FcmCredentials, audience: str, now_ms: int) -> Request:
        account = credentials.service_account
        assertion = assertion_of(account, _SCOPE, now_ms)
        parts = urlsplit(account.token_uri)
        return Request(
            "POST",
            f"{parts.scheme}://{parts.netloc}",
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            (("content-type", "application/x-www-form-urlencoded"),),
            grant_form(assertion),
            now_ms + _GRANT_MS,
        )

    @override
    def granted(
        self, response: Response, now_ms: int
    ) -> Authorization | RetryAfter | Misconfigured:
        answer = read_grant(response.body)
        if response.status == HTTPStatus.OK and answer.access_token:
            ends_ms = now_ms + int(min(max(0.0, answer.expires_in), _LONGEST_S) * 1000)
            renew_ms = max(now_ms, ends_ms - _AHEAD_S * 1000)
            return Authorization(f"Bearer {answer.access_token}", now_ms, renew_ms, ends_ms)
        told = f"{response.status} {answer.error[:64]}".strip()
        if response.status in {400, 401, 403}:
            return Misconfigured(told)
        return RetryAfter(told, retry_after_s(response, now_ms), Scope.AUDIENCE)

    @override
    def content(self, push: Push) -> FcmContent | TooLarge | Unsendable:
        message = _message(push)
        android, webpush = push.android, push.webpush
        size = sum(
            len(orjson.dumps(part))
            for name in ("notification", "data")
            if (part := message.get(name))
        )
        if size > MAX_BYTES:
            return TooLarge(size, MAX_BYTES)
        given = webpush.get("headers")
        headers = {k.lower(): v for k, v in given.items()} if isinstance(given, dict) else {}
        return FcmContent(
            push,
            message,
            _whole_s(_DURATION, android.get("ttl")),
            _whole_s(_SECONDS, headers.get("ttl")),
        )

    @override
    def encode(
        self,
        content: FcmContent,
        credentials: FcmCredentials,
        recipient: Recipient[FcmAddress],
        authorization: Authorization,
        now_ms: int,
        entropy: bytes = b"",
    ) -> Request:
        push = content.push
        left_s = push.remaining_s(now_ms)
        gone_s = max(0, now_ms - push.sent_ms) // 1000
        message = {"token": recipient.address.token, **content.message}
        android_s = _least(left_s, content.ttl_s, gone_s)
        message["android"] = {**_object(message.get("android")), "ttl": f"{android_s}s"}
        webpush = _object(message.get("webpush"))
        headers = {k: v for k, v in _object(webpush.get("headers")).items() if k.lower() != "ttl"}
        headers["TTL"] = str(_least(left_s, content.web_ttl_s, gone_s))
        message["webpush"] = {**webpush, "headers": headers}
        return Request(
            "POST",
            self.audience(credentials, recipient.address),
            f"/v1/projects/{credentials.service_account.project_id}/messages:send",
            (("authorization", authorization.value), _JSON),
            orjson.dumps({"message": message}),
            push_deadline(push, now_ms),
        )

    @override
    def read(self, response: Response, now_ms: int) -> Outcome:
        try:
            answer = _answer_decoder.decode(response.body)
        except UNREADABLE:
            answer = _Answer()
        if response.status == HTTPStatus.OK:
            return Delivered(answer.name)
        error = answer.error
        code = next((each.error_code for each in error.details if each.error_code in CODES), "")
        outcome = CODES.get(code) or STATUSES.get(error.status) or by_status(response.status)
        if isinstance(outcome, RetryAfter):
            after_s = retry_after_s(response, now_ms) or outcome.after_s
            of_device = outcome.after_s == _QUOTA_S and "device" in error.message.lower()
            scope = Scope.DEVICE if of_device else outcome.scope
            return RetryAfter(outcome.reason, after_s, scope)
        if isinstance(outcome, Rejected) and _names_token(error):
            return BadAddress(outcome.reason)
        return outcome

    @override
    def probe(
        self, credentials: FcmCredentials, authorization: Authorization, now_ms: int
    ) -> Request:
        """Ask for a dry run to a topic: FCM checks it and delivers nothing."""
        return Request(
            "POST",
            self.audience(credentials, None),
            f"/v1/projects/{credentials.service_account.project_id}/messages:send",
            (("authorization", authorization.value), _JSON),
            b'{"validate_only":true,"message":{"topic":"pushwire-probe","data":{"probe":"1"}}}',
            now_ms + _GRANT_MS,
        )


def _message(push: Push) -> JsonObject:
    """Put the message together; overrides are taken over as they are, with the message id added."""
    identified = {ID_KEY: push.id}
    message: JsonObject = {"data": {**push.data, **identified}}
    if push.notification is not None:
        message["notification"] = shown(push.notification)
    if push.label:
        message["fcm_options"] = {"analytics_label": push.label}
    message["android"] = _android(push)
    expires_s = 0 if push.now_or_never else -(-push.expires_ms // 1000)
    apns_headers = {"apns-expiration": str(expires_s)}
    if push.collapse_key and len(push.collapse_key.encode()) <= MAX_COLLAPSE_BYTES:
        apns_headers["apns-collapse-id"] = push.collapse_key
    given = {k.lower(): v for k, v in _object(push.apns.get("headers")).items()}
    message["apns"] = {**push.apns, "headers": {**apns_headers, **given}}
    if push.webpush:
        message["webpush"] = push.webpush
    for platform in ("android", "webpush"):
        part = _object(message.get(platform))
        if "data" in part:
            message[platform] = {**part, "data": {**_object(part["data"]), **identified}}
    return message


def _android(push: Push) -> JsonObject:
    android: JsonObject = {}
    if push.priority in {Priority.CRITICAL, Priority.HIGH}:
        android["priority"] = "HIGH"
    elif push.priority is Priority.LOW:
        android["priority"] = "NORMAL"
    if push.collapse_key:
        android["collapse_key"] = push.collapse_key
    android |= push.android
    if push.notification is not None or "notification" in android:
        own = {"tag": dedupe_tag(push.id)}
        android["notification"] = {**own, **_object(android.get("notification"))}
    return android


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _whole_s(form: re.Pattern[str], value: object) -> int | None:
    """Give the whole seconds, rounded up, of a duration or a number; None where it is neither."""
    found = form.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    fraction = found.group(2) if form.groups > 1 else ""
    return int(found.group(1 if form.groups else 0)) + (1 if (fraction or "").strip(".0") else 0)


def _least(left_s: int, given_s: int | None, gone_s: int) -> int:
    """Give what is left of a message, or of the shorter time that a platform was given."""
    return left_s if given_s is None else max(0, min(left_s, given_s - gone_s))


def _names_token(error: _Error) -> bool:
    fields = (each.get("field", "") for detail in error.details for each in detail.field_violations)
    return any(field in {"message.token", "token"} for field in fields)


BRIDGE: Final = Fcm()
