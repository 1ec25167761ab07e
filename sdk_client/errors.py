"""What can go wrong, for the developer of the app. Every error of the SDK is a `PushwireError`."""

from dataclasses import dataclass


class PushwireError(Exception):
    """Any error that the SDK raises on purpose."""


class StateError(PushwireError):
    """The state file cannot be read or written; the text says which and why."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field of a request, and what is accepted there."""

    field: str
    description: str


class ApiError(PushwireError):
    """The HTTP API refused a call, or could not be reached.

    Args:
        message: what the API says.
        http_status: the answer's status; 0 where there was no answer.
        status: the API's code such as `PERMISSION_DENIED`; `UNAVAILABLE` where there was no answer.
        violations: the bad fields.
        retry_after_s: seconds to wait before another try, where the API says so.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int = 0,
        status: str = "UNAVAILABLE",
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{status}: {message}")
        self.message = message
        self.http_status = http_status
        self.status = status
        self.violations = violations
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.http_status in {0, 429} or self.http_status >= 500  # noqa: PLR2004 - HTTP


class RequestError(PushwireError):
    """The gateway refused a `send`, `subscribe` or `unsubscribe`.

    Args:
        code: the protocol's code such as `INVALID_ARGUMENT`.
        message: what the gateway says.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class QueueFullError(PushwireError):
    """Too many requests wait for the gateway; it was away too long, or the app sends too fast."""


class DisconnectedError(PushwireError):
    """The connection ended for good; connecting again is of no use."""


class BadCredentialError(DisconnectedError):
    """The gateway does not accept the device's credential (close code 4001): register again."""


class DisplacedError(DisconnectedError):
    """The same device connected elsewhere (close code 4002).

    Two processes use one state file or credential; the newer one has the connection.
    """


class UnregisteredError(DisconnectedError):
    """The device is not registered any more (close code 4003): register again."""


class ClosedError(DisconnectedError):
    """The device was closed by `close()`."""
