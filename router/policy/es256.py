"""Signed tokens for providers: JWT with ES256 (RFC 7518, section 3.4).

The same claims always give the same token, for signatures are deterministic (RFC 6979): all workers
make the same one, and so does one that starts again. A provider that limits how often it sees a new
token (APNs) sees one.
"""

from typing import Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm
from jwt.utils import der_to_raw_signature
from typing_extensions import override

_ALGORITHM: Final = "ES256"


class _Deterministic(ECAlgorithm):
    @override
    def sign(self, msg: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        signature = key.sign(msg, ec.ECDSA(self.hash_alg(), deterministic_signing=True))
        return der_to_raw_signature(signature, key.curve)


def _signer() -> PyJWS:
    signer = PyJWS(algorithms=[])
    signer.register_algorithm(_ALGORITHM, _Deterministic(_Deterministic.SHA256, ec.SECP256R1))
    return signer


_jws: Final = _signer()


def signed(
    claims: dict[str, str | int], key: ec.EllipticCurvePrivateKey, headers: dict[str, str]
) -> str:
    """Sign claims with a key on P-256; `headers` stand beside `alg`."""
    return _jws.encode(orjson.dumps(claims), key, _ALGORITHM, headers=headers)


def private_key(pem: str) -> ec.EllipticCurvePrivateKey | None:
    """Read an unencrypted private key on P-256 from PEM, or give None."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    fits = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    return key if fits and isinstance(key, ec.EllipticCurvePrivateKey) else None
