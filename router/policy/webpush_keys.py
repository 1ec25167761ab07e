"""The cryptography of Web Push: keys of projects and subscriptions, and the encryption of a body.

Sources: RFC 8188 and RFC 8291 (encryption), RFC 8292 (the key pair that a project signs with).
"""

import base64
import hmac
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typing_extensions import override

MAX_BODY_BYTES: Final = 4096
"""What every push service takes (RFC 8030, section 7.2)."""
MAX_PLAIN_BYTES: Final = 3993
"""Of these, what RFC 8291, section 4 leaves to the plaintext."""
SALT_BYTES: Final = 16
KEY_BYTES: Final = 32
_MAX_PADDING: Final = 2
_AUTH_BYTES: Final = 16
_POINT_BYTES: Final = 65
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256: private keys are 1 to one less than this."""
_CURVE: Final = ec.SECP256R1()
_LAST_RECORD: Final = b"\2"


class SubscriptionKeys(msgspec.Struct, frozen=True, gc=False):
    """The keys of a subscription, base64url; secret."""

    p256dh: str
    auth: str

    @override
    def __repr__(self) -> str:
        return "<SubscriptionKeys>"


def encrypted(plain: bytes, keys: SubscriptionKeys, entropy: bytes) -> bytes:
    """Encrypt for a subscription: RFC 8291.

    Args:
        plain: up to `MAX_PLAIN_BYTES`.
        keys: of the subscription, checked.
        entropy: `SALT_BYTES` for the salt and `KEY_BYTES` for the sender's key, never used before.
    """
    if len(plain) > MAX_PLAIN_BYTES:
        raise ValueError(f"Takes up to {MAX_PLAIN_BYTES} bytes")
    if len(entropy) != SALT_BYTES + KEY_BYTES:
        raise ValueError(f"Needs {SALT_BYTES + KEY_BYTES} random bytes")
    sender = ec.derive_private_key(_scalar(entropy[SALT_BYTES:]), _CURVE)
    mine = _point(sender)
    theirs = from_base64(keys.p256dh)
    receiver = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, theirs)
    shared = sender.exchange(ec.ECDH(), receiver)
    secret = _hkdf(from_base64(keys.auth), shared, b"WebPush: info\0" + theirs + mine, KEY_BYTES)
    return sealed(plain, entropy[:SALT_BYTES], secret, mine)


def sealed(plain: bytes, salt: bytes, secret: bytes, key_id: bytes) -> bytes:
    """Write one record of RFC 8188 (`aes128gcm`), its header first."""
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    header = salt + MAX_BODY_BYTES.to_bytes(4, "big") + bytes([len(key_id)]) + key_id
    return header + AESGCM(key).encrypt(nonce, plain + _LAST_RECORD, None)


def new_private_key(entropy: bytes) -> str:
    """Make a project's private key from `KEY_BYTES` random bytes."""
    return to_base64(_scalar(entropy).to_bytes(KEY_BYTES, "big"))


def public_key(private: str) -> str:
    """Give the public key, as browsers take it for `applicationServerKey`."""
    key = key_of(private)
    if key is None:
        raise ValueError("The key was checked when it was set up")
    return to_base64(_point(key))


def to_base64(raw: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64(text: str) -> bytes:
    """Read base64url, or base64 as some browsers gave it, with padding or without; else nothing."""
    plain = text.rstrip("=").translate(str.maketrans("+/", "-_"))
    if len(text) - len(plain) > _MAX_PADDING:
        return b""  # any length of it reads the same, and would be stored
    try:
        raw = base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
    except ValueError:
        return b""
    return raw if to_base64(raw) == plain else b""


def is_point(text: str) -> bool:
    """Tell whether a text is an uncompressed point on P-256 in base64url."""
    raw = from_base64(text)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, raw)
    except ValueError:
        return False
    return len(raw) == _POINT_BYTES


def is_auth(text: str) -> bool:
    """Tell whether a text is the authentication secret of a subscription."""
    return len(from_base64(text)) == _AUTH_BYTES


def key_of(private: str) -> ec.EllipticCurvePrivateKey | None:
    """Read a private key of 32 bytes in base64url, or give None."""
    raw = from_base64(private)
    scalar = int.from_bytes(raw, "big")
    fits = len(raw) == KEY_BYTES and 0 < scalar < _ORDER
    return ec.derive_private_key(scalar, _CURVE) if fits else None


def _scalar(entropy: bytes) -> int:
    """Take a private key from random bytes; one in four thousand million has to be brought in."""
    scalar = int.from_bytes(entropy, "big")
    return scalar if 0 < scalar < _ORDER else scalar % (_ORDER - 1) + 1


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """Derive a key as RFC 5869 says, for lengths of one block at most."""
    pseudo_random = hmac.digest(salt, secret, "sha256")
    return hmac.digest(pseudo_random, info + b"\1", "sha256")[:length]
