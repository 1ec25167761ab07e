"""The request of `messages:send` as its JSON says it: FCM HTTP v1, and Pushwire's own fields.

Names are in snake_case, as FCM's reference writes them; `violations` reads camelCase too. What one
field accepts stands beside it, and serves validation, error texts and the API's description alike.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

_END: Final = r"(?![\s\S])"
"""End of text. Python's `$` would let a line feed through."""
_DURATION: Final = r"^[0-9]{1,12}(\.[0-9]{1,9})?s"


def _any_case(*words: str) -> str:
    """Give a pattern for any of `words` without regard to case, in the regex of JSON Schema."""
    alternatives = (
        "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in word) for word in words
    )
    return f"^({'|'.join(alternatives)}){_END}"


JsonObject = dict[str, object]
Duration = Annotated[
    str, Meta(pattern=_DURATION + _END, description='a duration in seconds such as "3.5s"')
]
Time = Annotated[
    datetime, Meta(tz=True, description="an RFC 3339 time with its zone: 2030-01-31T08:00:00Z")
]
Colour = Annotated[
    str, Meta(pattern=r"^#[0-9A-Fa-f]{6}" + _END, description="a colour written #rrggbb")
]
Label = Annotated[
    str,
    Meta(
        pattern=r"^[a-zA-Z0-9_.~%-]{1,50}" + _END,
        description="1 to 50 characters of a-z, A-Z, 0-9 and -_.~%",
    ),
]
HttpsLink = Annotated[str, Meta(pattern=r"^https://[!-~]+" + _END, description="an https:// URL")]
CollapseKey = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 characters")]
Fraction = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Count = Annotated[int, Meta(ge=0, le=2_147_483_647, description="an integer of 0 or more")]
AndroidPriority = Annotated[
    str, Meta(pattern=_any_case("normal", "high"), description="NORMAL or HIGH, in any case")
]
AnyPriority = Annotated[
    str,
    Meta(
        pattern=_any_case("critical", "high", "normal", "low"),
        description="critical, high, normal or low",
    ),
]
NotificationPriority = Annotated[
    str,
    Meta(
        pattern=_any_case(
            "PRIORITY_UNSPECIFIED",
            "PRIORITY_MIN",
            "PRIORITY_LOW",
            "PRIORITY_DEFAULT",
            "PRIORITY_HIGH",
            "PRIORITY_MAX",
        ),
        description="PRIORITY_MIN, PRIORITY_LOW, PRIORITY_DEFAULT, PRIORITY_HIGH or PRIORITY_MAX",
    ),
]
Visibility = Annotated[
    str,
    Meta(
        pattern=_any_case("VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
        description="PRIVATE, PUBLIC or SECRET",
    ),
]
Proxy = Annotated[
    str,
    Meta(
        pattern=_any_case("PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
        description="ALLOW, DENY or IF_PRIORITY_LOWERED",
    ),
]
ReceiptsWord = Annotated[
    str,
    Meta(pattern=_any_case("none", "aggregate", "device"), description="none, aggregate or device"),
]
BridgeWord = Annotated[
    str, Meta(pattern=_any_case("auto", "only", "never"), description="auto, only or never")
]
AfterSeconds = Annotated[
    int, Meta(ge=0, le=2_419_200, description="whole seconds, or a duration such as 30s")
]
_SOME_TEXTS: Final = Meta(min_length=1, max_length=100, description="an array of 1 to 100 texts")
FilterValue = Annotated[
    str, Meta(min_length=1, max_length=256, description="a text of 1 to 256 characters")
]
FilterValues = Annotated[list[FilterValue], _SOME_TEXTS] | FilterValue
AttributeValue = Annotated[str, Meta(max_length=256, description="a text of up to 256 characters")]
AttributeValues = Annotated[list[AttributeValue], _SOME_TEXTS] | AttributeValue
VersionRange = Annotated[
    str,
    Meta(min_length=1, max_length=256, description="a range of versions such as >=2.3.0 <3"),
]
_UP_TO_500: Final = Meta(max_length=500, description="an array of up to 500 messages")
IdempotencyKey = Annotated[
    str, Meta(pattern=r"^[!-~]{1,255}" + _END, description="1 to 255 visible ASCII characters")
]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A JSON object that refuses members it does not know; null counts as missing."""


class Notification(_Strict):
    """What the operating system shows."""

    title: str | None = None
    body: str | None = None
    image: str | None = None


class FcmOptions(_Strict):
    """Options for all platforms."""

    analytics_label: Label | None = None


class LightColour(_Strict):
    """A colour of the notification light (google.type.Color)."""

    red: Fraction | None = None
    green: Fraction | None = None
    blue: Fraction | None = None
    alpha: Fraction | None = None


class LightSettings(_Strict):
    """How the notification light blinks."""

    color: LightColour | None = None
    light_on_duration: Duration | None = None
    light_off_duration: Duration | None = None


class AndroidNotification(Notification):
    """A notification on Android; title, body and image go before the common ones."""

    icon: str | None = None
    color: Colour | None = None
    sound: str | None = None
    tag: str | None = None
    click_action: str | None = None
    body_loc_key: str | None = None
    body_loc_args: list[str] | None = None
    title_loc_key: str | None = None
    title_loc_args: list[str] | None = None
    channel_id: str | None = None
    ticker: str | None = None
    sticky: bool | None = None
    event_time: Time | None = None
    local_only: bool | None = None
    notification_priority: NotificationPriority | None = None
    default_sound: bool | None = None
    default_vibrate_timings: bool | None = None
    default_light_settings: bool | None = None
    vibrate_timings: list[Duration] | None = None
    visibility: Visibility | None = None
    notification_count: Count | None = None
    light_settings: LightSettings | None = None
    proxy: Proxy | None = None


class Android(_Strict):
    """Options of Android. They count on Pushwire's own sockets where the message has none."""

    collapse_key: CollapseKey | None = None
    priority: AndroidPriority | None = None
    ttl: Duration | None = None
    restricted_package_name: str | None = None
    data: dict[str, str] | None = None
    notification: AndroidNotification | None = None
    fcm_options: FcmOptions | None = None
    direct_boot_ok: bool | None = None
    bandwidth_constrained_ok: bool | None = None
    restricted_satellite_ok: bool | None = None


class WebpushOptions(FcmOptions):
    """Options of FCM for Web Push."""

    link: HttpsLink | None = None


class Webpush(_Strict):
    """Options of Web Push."""

    headers: dict[str, str] | None = None
    data: dict[str, str] | None = None
    notification: JsonObject | None = None
    fcm_options: WebpushOptions | None = None


class ApnsOptions(FcmOptions):
    """Options of FCM for APNs."""

    image: str | None = None


class Apns(_Strict):
    """Options of APNs."""

    headers: dict[str, str] | None = None
    payload: JsonObject | None = None
    fcm_options: ApnsOptions | None = None
    live_activity_token: str | None = None


class Bridge(_Strict):
    """When a bridge may carry the message: `after` seconds without an ack."""

    mode: BridgeWord | None = None
    after: AfterSeconds | Duration | None = None


class Filter(_Strict):
    """What a device must be; several values of a field are alternatives."""

    platform: FilterValues | None = None
    language: FilterValues | None = None
    region: FilterValues | None = None
    app_version: VersionRange | None = None
    attributes: dict[str, AttributeValues] | None = None


class MessageBody(_Strict):
    """One message: FCM's fields, and Pushwire's own from `user` on."""

    token: str | None = None
    topic: str | None = None
    condition: str | None = None
    fid: str | None = None
    notification: Notification | None = None
    data: dict[str, str] | None = None
    android: Android | None = None
    webpush: Webpush | None = None
    apns: Apns | None = None
    fcm_options: FcmOptions | None = None
    user: str | None = None
    group: str | None = None
    filter: Filter | None = None
    ttl: Duration | None = None
    collapse_key: CollapseKey | None = None
    priority: AnyPriority | None = None
    send_at: Time | None = None
    receipts: ReceiptsWord | None = None
    bridge: Bridge | BridgeWord | None = None
    after: AfterSeconds | Duration | None = None


class SendBody(_Strict):
    """The body of `messages:send`."""

    message: MessageBody
    validate_only: bool | None = None
    idempotency_key: IdempotencyKey | None = None


class BatchBody(_Strict):
    """The body of `messages:sendBatch`.

    An element may also be wrapped as in `messages:send`, with an idempotency key of its own:
    `{"message": {...}, "idempotency_key": "..."}`.
    """

    messages: Annotated[list[MessageBody], _UP_TO_500]
    validate_only: bool | None = None


class BatchFrame(_Strict):
    """The same, each message still as its bytes: one bad message must not refuse the others."""

    messages: Annotated[list[msgspec.Raw], _UP_TO_500]
    validate_only: bool | None = None


class BatchShape(_Strict):
    """The same as plain JSON values, for reading the slow way."""

    messages: Annotated[list[object], _UP_TO_500]
    validate_only: bool | None = None
