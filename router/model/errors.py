"""The one table of errors: code, HTTP status, FCM code, close code, whether to try again."""

import enum
from typing import Final, NamedTuple

import msgspec

from router.model.limits import Limit, Rate


class Kind(NamedTuple):
    """One row of the table."""

    http: int
    status: str
    """google.rpc.Code."""
    fcm: str
    """FcmError.errorCode; empty where FCM has none."""
    retryable: bool


class ErrorCode(enum.Enum):
    """Every error that leaves Pushwire over HTTP. The names are API, the texts are not."""

    INVALID_ARGUMENT = Kind(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", retryable=False)
    FAILED_PRECONDITION = Kind(400, "FAILED_PRECONDITION", "", retryable=False)
    UNAUTHENTICATED = Kind(401, "UNAUTHENTICATED", "", retryable=False)
    PERMISSION_DENIED = Kind(403, "PERMISSION_DENIED", "", retryable=False)
    SENDER_ID_MISMATCH = Kind(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", retryable=False)
    NOT_FOUND = Kind(404, "NOT_FOUND", "", retryable=False)
    UNREGISTERED = Kind(404, "NOT_FOUND", "UNREGISTERED", retryable=False)
    METHOD_NOT_ALLOWED = Kind(405, "INVALID_ARGUMENT", "", retryable=False)
    ALREADY_EXISTS = Kind(409, "ALREADY_EXISTS", "", retryable=False)
    ABORTED = Kind(409, "ABORTED", "", retryable=True)
    PAYLOAD_TOO_LARGE = Kind(413, "INVALID_ARGUMENT", "INVALID_ARGUMENT", retryable=False)
    IDEMPOTENCY_KEY_REUSED = Kind(422, "FAILED_PRECONDITION", "", retryable=False)
    QUOTA_EXCEEDED = Kind(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", retryable=True)
    INTERNAL = Kind(500, "INTERNAL", "INTERNAL", retryable=True)
    UNIMPLEMENTED = Kind(501, "UNIMPLEMENTED", "", retryable=False)
    UNAVAILABLE = Kind(503, "UNAVAILABLE", "UNAVAILABLE", retryable=True)


class FieldViolation(msgspec.Struct, frozen=True, gc=False):
    """One bad field: its path as the caller wrote it, and what is accepted there."""

    field: str
    description: str


class PushError(Exception):
    """An error that the caller can act on.

    Args:
        code: the row of the table.
        message: tells the user what to do.
        violations: the bad fields, for INVALID_ARGUMENT.
        retry_after_s: seconds to wait before another try, where that helps.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violations = violations
        self.retry_after_s = retry_after_s


_LIFTED: Final = {
    Limit.PROJECT: ("messages of the project", "--sends-per-second"),
    Limit.KEY: ("messages of the key", "--key-sends-per-second"),
    Limit.PUBLISHES: ("messages of the project to many devices", "--publishes-per-second"),
    Limit.DEVICE: ("messages to the device", "--device-sends-per-minute"),
    Limit.TOPIC: ("messages to the topic", "--topic-publishes-per-minute"),
}
_BY_SECOND: Final = frozenset({Limit.PROJECT, Limit.KEY, Limit.PUBLISHES})
"""All others are set, and told, by the minute."""


class QuotaExceededError(PushError):
    """A limit by rate was hit; nothing was stored.

    Args:
        limit: which.
        subject: whose bucket is empty, `project:shop` for example.
        rate: what is allowed.
        wait_s: seconds until the next is.
    """

    def __init__(self, limit: Limit, subject: str, rate: Rate, wait_s: float) -> None:
        what, flag = _LIFTED.get(limit, ("registrations from the address", ""))
        lift = f"`pushwire project limits PROJECT {flag} N`" if flag else "the gateway's settings"
        pace = f"{rate.per_s:g} a second"
        if limit not in _BY_SECOND:
            pace = f"{rate.per_s * 60:g} a minute"
        self.limit = limit
        self.subject = subject
        self.rate = rate
        self.description = (
            f"Too many {what}: {pace} are accepted, {rate.burst:.0f} at once. "
            f"The operator lifts it with {lift}."
        )
        super().__init__(
            ErrorCode.QUOTA_EXCEEDED,
            f"{self.description} Try again after `Retry-After`.",
            retry_after_s=wait_s,
        )


class StoreUnavailableError(PushError):
    """The store did not answer in time. Nothing was accepted."""

    def __init__(self, message: str = "The store is away; try again shortly.") -> None:
        super().__init__(ErrorCode.UNAVAILABLE, message, retry_after_s=1.0)


class StoreOutcomeUnknownError(StoreUnavailableError):
    """The store got the command and did not answer in time: it may have been carried out.

    Senders answer it like `StoreUnavailableError`, and withdraw what may have been stored.
    """


class StoreRefusedError(StoreUnavailableError):
    """The store is there and cannot take the command now: no memory, no disk, no replicas."""


class StoreReplyError(PushError):
    """The store answered one command with an error. Other commands are not concerned."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INTERNAL, message)


class CloseCode(enum.IntEnum):
    """WebSocket close codes of the device protocol."""

    NORMAL = 1000
    SHUTDOWN = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    POLICY = 1008
    TOO_BIG = 1009
    TRY_AGAIN_LATER = 1013
    BAD_CREDENTIAL = 4001
    DISPLACED = 4002
    UNREGISTERED = 4003
    SLOW_CONSUMER = 4004
    CONNECT_TIMEOUT = 4008
