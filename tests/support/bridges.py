"""Keys, credentials and pushes for tests of bridges."""

import functools
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from router.model.ids import MessageId
from router.model.message import Notification
from router.model.push import Push

NOW_MS = 1_900_000_000_000
HOUR_MS = 3_600_000
APNS_TOKEN = "0a" * 32
FCM_TOKEN = "fcm-token_of:a.device-0001"  # noqa: S105 - of nobody
MESSAGE = MessageId("00l3v8abcdefghijklmnopqrstu")


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def push(now_ms: int = NOW_MS, ttl_ms: int = HOUR_MS, **fields: Any) -> Push:
    """A push that shows something, unless told otherwise."""
    fields.setdefault("notification", Notification("Title", "Body"))
    return Push(fields.pop("id", MESSAGE), now_ms, now_ms + ttl_ms, **fields)


def apns_credentials(**changes: Any) -> dict[str, Any]:
    return {
        "key": pem(ec_key()),
        "key_id": "KEY1234567",
        "team_id": "TEAM123456",
        "topic": "com.example.app",
        **changes,
    }


def fcm_credentials(
    token_uri: str = "https://oauth2.googleapis.com/token",  # noqa: S107 - an address
    **changes: Any,
) -> dict[str, Any]:
    account = {
        "type": "service_account",
        "project_id": "firebase-demo",
        "private_key_id": "key-1",
        "private_key": pem(rsa_key()),
        "client_email": "sender@firebase-demo.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    return {"service_account": account, **changes}
