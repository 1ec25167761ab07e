"""The keys that seal credentials of bridges, as text: in a setting or in a file."""

import base64
import binascii
from typing import Final

KEY_BYTES: Final = 32
ACCEPTED: Final = "accepts base64 of 32 bytes, several separated by commas; the first one seals"


def read_keys(text: str) -> tuple[bytes, ...]:
    """Read keys, separated by commas or white space, in base64 or base64url.

    Raises:
        ValueError: one is none. Its text is not repeated.
    """
    return tuple(_key(word) for word in text.replace(",", " ").split())


def write_key(key: bytes) -> str:
    """Write a key as `read_keys` takes it."""
    return base64.b64encode(key).decode()


def _key(word: str) -> bytes:
    plain = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(ACCEPTED)
    return key
