"""When Apple takes which token of a provider. Pure.

Apple takes a token for an hour after its `iat`, and a new one every 20 minutes at most
("Establishing a token-based connection to APNs"). All processes make the same one: its `iat` lies
on a grid.
"""

from typing import Final, NamedTuple

TOKEN_S: Final = 1800
"""A new token this often."""
_SKEW_S: Final = 60
"""How far our clock may be ahead of Apple's: a token is dated back by this at least."""
_HOUR_S: Final = 3600
_BETWEEN_S: Final = 1200


class TokenTimes(NamedTuple):
    """The times of one token."""

    issued_s: int
    """Its `iat`, epoch seconds."""
    next_ms: int
    """From then on another one can be made."""
    renew_ms: int
    """From then on another one is to be used."""
    ends_ms: int


def token_times(now_ms: int) -> TokenTimes:
    """Give the times of the token that is made at this time (epoch milliseconds)."""
    issued_s = (now_ms // 1000 - _SKEW_S) // TOKEN_S * TOKEN_S
    next_ms = (issued_s + _SKEW_S + TOKEN_S) * 1000
    # Apple counts from when it sees a token: who begins with one late in its time keeps it.
    renew_ms = max(next_ms, now_ms + _BETWEEN_S * 1000)
    return TokenTimes(issued_s, next_ms, renew_ms, (issued_s + _HOUR_S) * 1000)
