"""The table of errors: sound rows, and errors that carry them."""

import pytest

from router.model.errors import (
    CloseCode,
    ErrorCode,
    FieldViolation,
    PushError,
    QuotaExceededError,
    StoreOutcomeUnknownError,
    StoreUnavailableError,
)
from router.model.limits import Limit, Rate

_RPC_CODES = {
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "ABORTED",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "UNIMPLEMENTED",
    "UNAVAILABLE",
}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_each_row_names_an_http_error_and_a_google_rpc_code(code: ErrorCode) -> None:
    assert 400 <= code.value.http < 600
    assert code.value.status in _RPC_CODES


def test_no_two_codes_share_a_row() -> None:
    assert len(ErrorCode.__members__) == len(list(ErrorCode))


def test_what_is_worth_another_try_is_not_the_callers_fault() -> None:
    faults = {400, 401, 403, 404, 405, 413, 422, 501}
    assert not any(code.value.retryable for code in ErrorCode if code.value.http in faults)


def test_an_error_carries_what_the_caller_needs() -> None:
    violation = FieldViolation("message.token", "a device's address")
    error = PushError(
        ErrorCode.INVALID_ARGUMENT, "Fix it.", violations=(violation,), retry_after_s=2.0
    )
    assert str(error) == error.message == "Fix it."
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.violations == (violation,)
    assert error.retry_after_s == 2.0


@pytest.mark.parametrize("kind", [StoreUnavailableError, StoreOutcomeUnknownError])
def test_a_store_that_is_away_asks_for_another_try(kind: type[StoreUnavailableError]) -> None:
    error = kind()
    assert error.code is ErrorCode.UNAVAILABLE
    assert error.code.value.retryable
    assert error.retry_after_s


@pytest.mark.parametrize(
    ("limit", "rate", "says"),
    [
        (Limit.PROJECT, Rate(5000.0, 10_000.0), "5000 a second are accepted, 10000 at once"),
        (Limit.DEVICE, Rate(240 / 60, 1000.0), "240 a minute are accepted, 1000 at once"),
        (Limit.ADDRESS, Rate(5 / 60, 5.0), "5 a minute are accepted, 5 at once"),
    ],
)
def test_a_limit_is_told_as_it_is_set(limit: Limit, rate: Rate, says: str) -> None:
    assert says in QuotaExceededError(limit, "x", rate, 1.0).description


def test_close_codes_are_ones_that_may_be_sent() -> None:
    assert all(1000 <= code < 5000 and code not in {1005, 1006, 1015} for code in CloseCode)
