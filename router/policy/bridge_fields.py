"""How the fields of credentials and addresses are read, and what is said of bad ones."""

import re
from typing import ClassVar, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
from cryptography.x509 import load_pem_x509_certificates

from router.model.errors import ErrorCode, FieldViolation, PushError

COMMON: Final = {
    "endpoint": "http(s)://host[:port] of another provider address, without a path",
    "ca": "certificates in PEM",
}
"""What the fields that all credentials have accept."""
_MAX_NAME: Final = 64
"""Of an unknown field, in an answer."""
_ENDPOINT: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,260}")
_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED: Final = re.compile(r"(?:required|unknown) field `([^`]+)`")


class Described(Protocol):
    """A struct that says what its fields accept."""

    ACCEPTS: ClassVar[dict[str, str]]


S = TypeVar("S", bound=Described)


def parsed(kind: type[S], raw: object, prefix: str) -> S:
    """Convert plain JSON values into `kind`.

    Raises:
        PushError: INVALID_ARGUMENT, naming the field below `prefix`; values are not repeated.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise refuse(prefix, [_violation(kind, str(error))]) from None


def refuse(prefix: str, faults: list[tuple[str, str]]) -> PushError:
    """Make INVALID_ARGUMENT of fields below `prefix` and what each accepts."""
    violations = tuple(
        FieldViolation(".".join(filter(None, (prefix, field))), says) for field, says in faults
    )
    text = "; ".join(f"{each.field}: {each.description}" for each in violations)
    return PushError(ErrorCode.INVALID_ARGUMENT, text, violations=violations)


def common_faults(endpoint: str, ca: str) -> list[tuple[str, str]]:
    """Check the fields that all credentials have: each bad one, and what it accepts."""
    faults = []
    if endpoint and not _is_origin(endpoint):
        faults.append(("endpoint", COMMON["endpoint"]))
    if ca:
        try:
            load_pem_x509_certificates(ca.encode())
        except ValueError:
            faults.append(("ca", COMMON["ca"]))
    return faults


def _is_origin(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return bool(_ENDPOINT.fullmatch(endpoint) and parts.hostname and parts.port != 0)
    except ValueError:  # brackets that do not match, a port that is none
        return False


def _violation(kind: type[S], error: str) -> tuple[str, str]:
    place = found.group(1) if (found := _PLACE.search(error)) else ""
    named = found.group(1)[:_MAX_NAME] if (found := _NAMED.search(error)) else ""
    field = ".".join(filter(None, (place, named)))
    if "unknown field" in error:
        return field, f"is not known; accepted are {', '.join(sorted(kind.ACCEPTS))}"
    said = "is required: " if "required field" in error else "must be "
    return field, said + kind.ACCEPTS.get(field, "an object of JSON")
