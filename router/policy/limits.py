"""The limits of the product, and what is checked against them.

Each check gives the violations that it found, with what is accepted there; none raises.
"""

import re
from collections.abc import Mapping
from typing import Final

from router.model.errors import FieldViolation
from router.model.message import MAX_PAYLOAD_BYTES

MAX_SCHEDULE_S: Final = 28 * 24 * 3600
WINDOW: Final = 128
"""The most that one function of the store reads or changes; callers loop."""
MAX_ATTRIBUTES: Final = 64
MAX_ATTRIBUTE_KEY_CHARS: Final = 64
MAX_ATTRIBUTE_VALUE_CHARS: Final = 256
MAX_APP_VERSION_CHARS: Final = 64
MAX_USER_CHARS: Final = 128

_PLATFORM: Final = re.compile(r"[a-z0-9_-]{1,32}")
# BCP 47 in form only (RFC 5646, section 2.1): a language, then subtags. Android's `de_DE` passes.
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,7}")
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,32}")


def payload_violation(payload_bytes: int) -> FieldViolation | None:
    """Check the size of notification and data together, as JSON in UTF-8."""
    if payload_bytes <= MAX_PAYLOAD_BYTES:
        return None
    return FieldViolation(
        "message",
        f"notification and data take {payload_bytes} bytes as JSON; "
        f"at most {MAX_PAYLOAD_BYTES} are accepted",
    )


def schedule_violation(send_at_ms: int | None, now_ms: int) -> FieldViolation | None:
    """Check that a message is not scheduled too far ahead; the past means now."""
    if send_at_ms is None or send_at_ms - now_ms <= MAX_SCHEDULE_S * 1000:
        return None
    return FieldViolation("message.send_at", "a time at most 28 days ahead")


def platform_violation(platform: str) -> FieldViolation | None:
    """Check the one field of a registration that is required."""
    if _PLATFORM.fullmatch(platform):
        return None
    return FieldViolation("platform", "1 to 32 characters of a-z, 0-9, _ and -, such as android")


def language_violation(language: str) -> FieldViolation | None:
    """Check the form of a language tag; empty for none."""
    if not language or _LANGUAGE.fullmatch(language):
        return None
    return FieldViolation("language", "a BCP 47 language tag such as de or pt-BR")


def region_violation(region: str) -> FieldViolation | None:
    """Check a device's region; empty for none."""
    if not region or _REGION.fullmatch(region):
        return None
    return FieldViolation("region", "1 to 32 letters, digits and -, such as DE or us-east")


def app_version_violation(app_version: str) -> FieldViolation | None:
    """Check the version that an app gives of itself; empty for none."""
    if len(app_version) <= MAX_APP_VERSION_CHARS and app_version.isprintable():
        return None
    return FieldViolation("app_version", f"at most {MAX_APP_VERSION_CHARS} printable characters")


def user_violation(user: str) -> FieldViolation | None:
    """Check an app server's name of the device's user; empty for none."""
    if len(user) <= MAX_USER_CHARS and user.isprintable():
        return None
    return FieldViolation("user", f"at most {MAX_USER_CHARS} printable characters")


def attribute_violations(attributes: Mapping[str, str]) -> list[FieldViolation]:
    """Check a device's attributes: their number, and the length of each key and value."""
    if len(attributes) > MAX_ATTRIBUTES:
        return [FieldViolation("attributes", f"at most {MAX_ATTRIBUTES} entries")]
    found = []
    for key, value in attributes.items():
        if not 0 < len(key) <= MAX_ATTRIBUTE_KEY_CHARS or not _is_text(key):
            accepted = f"keys of 1 to {MAX_ATTRIBUTE_KEY_CHARS} characters"
            found.append(FieldViolation("attributes", accepted))
        elif len(value) > MAX_ATTRIBUTE_VALUE_CHARS or not _is_text(value):
            accepted = f"at most {MAX_ATTRIBUTE_VALUE_CHARS} characters"
            found.append(FieldViolation(f"attributes.{key}", accepted))
    return found


def _is_text(text: str) -> bool:
    """Tell whether the text can be written in UTF-8: JSON can name halves of a character alone."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
