"""The one shape of errors: Google's, which FCM's clients parse."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from router.model.errors import ErrorCode, FieldViolation, PushError, QuotaExceededError
from router.policy.rates import policy

FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
QUOTA_FAILURE: Final = "type.googleapis.com/google.rpc.QuotaFailure"
RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
INTERNAL_TEXT: Final = "Something broke in the gateway; it was logged. Try again."
_RETRY_LATER: Final = {ErrorCode.QUOTA_EXCEEDED: 60.0, ErrorCode.UNAVAILABLE: 1.0}
"""What is repeated, and after how many seconds where the error does not say: room under a limit of
number comes when somebody makes it.
"""


class MethodNotAllowedError(PushError):
    """The path takes other methods.

    Args:
        path: as it was called.
        allowed: what it takes.
    """

    def __init__(self, path: str, allowed: Iterable[str]) -> None:
        self.allowed = sorted(allowed)
        takes = " and ".join(self.allowed)
        super().__init__(ErrorCode.METHOD_NOT_ALLOWED, f"{path[:100]} takes {takes} only.")


class FcmErrorDetail(msgspec.Struct, frozen=True, tag_field="@type", tag=FCM_ERROR):
    """FCM's own code."""

    errorCode: str  # noqa: N815 - FCM's name


class BadRequestDetail(msgspec.Struct, frozen=True, tag_field="@type", tag=BAD_REQUEST):
    """The bad fields."""

    fieldViolations: tuple[FieldViolation, ...]  # noqa: N815 - Google's name


class QuotaViolation(msgspec.Struct, frozen=True):
    """A limit that was hit: whose, and how it is lifted."""

    subject: str
    description: str


class QuotaFailureDetail(msgspec.Struct, frozen=True, tag_field="@type", tag=QUOTA_FAILURE):
    """The limits that were hit."""

    violations: tuple[QuotaViolation, ...]


class RetryInfoDetail(msgspec.Struct, frozen=True, tag_field="@type", tag=RETRY_INFO):
    """When to try again, for the messages of a batch too: `Retry-After` is of a whole answer."""

    retryDelay: str  # noqa: N815 - Google's name


Detail = FcmErrorDetail | BadRequestDetail | QuotaFailureDetail | RetryInfoDetail


class ErrorContent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened: `code` is the HTTP status, `status` the google.rpc code."""

    code: int
    message: str
    status: str
    details: tuple[Detail, ...] = ()


class ErrorBody(msgspec.Struct, frozen=True):
    """Every error answer."""

    error: ErrorContent


_encoder = msgspec.json.Encoder()


def body_of(error: PushError) -> ErrorBody:
    """Give an error in the shape of the API."""
    kind = error.code.value
    details: list[Detail] = []
    if kind.fcm:
        details.append(FcmErrorDetail(errorCode=kind.fcm))
    if error.violations:
        details.append(BadRequestDetail(fieldViolations=error.violations))
    if isinstance(error, QuotaExceededError):
        violation = QuotaViolation(error.subject, error.description)
        details.append(QuotaFailureDetail(violations=(violation,)))
        details.append(RetryInfoDetail(retryDelay=f"{_whole(error.retry_after_s)}s"))
    return ErrorBody(ErrorContent(kind.http, error.message, kind.status, tuple(details)))


def encode(error: PushError) -> bytes:
    """Give an error as the body of an answer."""
    return _encoder.encode(body_of(error))


def headers(error: PushError) -> dict[str, str]:
    """Give the headers of an error answer: what would be allowed, or when to try again."""
    if error.code is ErrorCode.UNAUTHENTICATED:
        return {"WWW-Authenticate": 'Bearer realm="pushwire"'}
    if isinstance(error, MethodNotAllowedError):
        return {"Allow": ", ".join(error.allowed)}
    wait = error.retry_after_s
    if wait is None:
        wait = _RETRY_LATER.get(error.code)
    if wait is None:
        return {}
    found = {"Retry-After": str(_whole(wait))}
    if isinstance(error, QuotaExceededError):
        found["RateLimit-Policy"] = policy(error.limit, error.rate)
        found["RateLimit"] = f'"{error.limit.value}";r=0;t={_whole(wait)}'
    return found


def _whole(wait_s: float | None) -> int:
    return max(1, math.ceil(wait_s or 0))


def refuse_all(outcomes: Sequence[object]) -> None:
    """Answer 503 or 429 as a whole where the store, or the limits, took nothing of a batch.

    Raises:
        PushError: the first of the errors.
    """
    refusals = [one for one in outcomes if isinstance(one, PushError)]
    for code in _RETRY_LATER:
        found = [one for one in refusals if one.code is code]
        if outcomes and len(found) == len(outcomes):
            raise found[0]
