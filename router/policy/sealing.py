"""Sealing of secrets at rest: AES-256-GCM under keys that never enter the store.

A sealed text is `<key id>.<nonce><ciphertext>`: the id names the key without telling anything of
it, so that old keys can be kept for opening while a new one seals. A text is bound to its context
(whose secret it is): put in another's place, it does not open.

Sources: NIST SP 800-38D (random nonces of 96 bits: up to 2^32 texts a key).
"""

import hmac
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import override

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_ID_BYTES: Final = 4
_ID_LABEL: Final = b"pushwire sealing key"


class SealError(Exception):
    """A text does not open. Says why, and nothing of what is in it."""


class Keyring:
    """The keys at hand: the first seals, all open.

    Args:
        keys: of `KEY_BYTES` each; with none nothing is sealed or opened.
    """

    __slots__ = ("_by_id", "_first")

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._by_id = {key_id(key): AESGCM(key) for key in keys}
        self._first = key_id(keys[0]) if keys else ""

    def __bool__(self) -> bool:
        return bool(self._first)

    @override
    def __repr__(self) -> str:
        return f"<Keyring of {len(self._by_id)}>"

    def seal(self, plain: bytes, context: str, entropy: bytes) -> bytes:
        """Seal a text.

        Args:
            plain: what nobody is to read.
            context: whose it is; to be given again when it is opened.
            entropy: `NONCE_BYTES` random bytes, never used before.

        Raises:
            SealError: there is no key.
        """
        if not self._first:
            raise SealError("there is no key")
        if len(entropy) != NONCE_BYTES:
            raise ValueError(f"Needs {NONCE_BYTES} random bytes")
        body = self._by_id[self._first].encrypt(entropy, plain, context.encode())
        return b"%s.%s%s" % (self._first.encode(), entropy, body)

    def open(self, sealed: bytes, context: str) -> bytes:
        """Give what was sealed.

        Raises:
            SealError: its key is not here, or it was changed, or it is of another context.
        """
        name, body = sealed_with(sealed), sealed.partition(b".")[2]
        if (key := self._by_id.get(name)) is None:
            raise SealError(f"it is sealed with the key {name}, which is not here")
        try:
            return key.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise SealError("it was changed since it was sealed") from None

    def is_newest(self, sealed: bytes) -> bool:
        """Tell whether the key that seals has sealed it."""
        return sealed_with(sealed) == self._first


def key_id(key: bytes) -> str:
    """Name a key: 8 hexadecimal digits from which nothing of it follows."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"A key has {KEY_BYTES} bytes")
    return hmac.digest(key, _ID_LABEL, "sha256")[:_ID_BYTES].hex()


def sealed_with(sealed: bytes) -> str:
    """Give the id of the key that has sealed a text."""
    return sealed.partition(b".")[0][: _ID_BYTES * 2].decode("ascii", "replace")
