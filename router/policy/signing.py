"""Signatures of callbacks: Standard Webhooks, symmetric (`v1`)."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from router.model.errors import FieldViolation

PREFIX: Final = "whsec_"
MIN_BYTES: Final = 24
MAX_BYTES: Final = 64


def new_secret(entropy: bytes) -> str:
    """Write `MIN_BYTES` or more random bytes as a secret."""
    return PREFIX + base64.b64encode(entropy).decode()


def secret_violation(secret: str) -> FieldViolation | None:
    """Check a secret that a project chose itself."""
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret[len(PREFIX) :], validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if MIN_BYTES <= len(key) <= MAX_BYTES:
            return None
    accepted = f"whsec_ and {MIN_BYTES} to {MAX_BYTES} bytes in base64"
    return FieldViolation("secret", accepted)


def sign(secret: str, callback: str, timestamp_s: int, body: bytes) -> str:
    """Give one signature, as it stands in the header `webhook-signature`."""
    key = base64.b64decode(secret[len(PREFIX) :])
    signed = b"%b.%d.%b" % (callback.encode(), timestamp_s, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers(secrets: Iterable[str], callback: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Give the three headers of a request, with a signature for each secret that is valid."""
    return {
        "webhook-id": callback,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(
            sign(secret, callback, timestamp_s, body) for secret in secrets
        ),
    }
