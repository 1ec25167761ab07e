"""What is known of a project's bridge beside its credentials; nothing in it is secret."""

from typing import Final

import msgspec

MAX_SUSPENDED: Final = 64
"""Audiences of one bridge whose suspension is kept: devices name those of Web Push themselves."""


class Suspension(msgspec.Struct, frozen=True):
    """Why nothing goes to an audience, since when (epoch milliseconds)."""

    reason: str
    since_ms: int


class BridgeTest(msgspec.Struct, frozen=True):
    """How the last test of the credentials ended, and when (epoch milliseconds)."""

    ok: bool
    says: str
    time_ms: int
    refused: bool = False
    """Whether the provider refused them; else, where they are not ok, it could not be asked."""


class BridgeState(msgspec.Struct, frozen=True):
    """The state of the credentials with this generation; others say nothing about them."""

    generation: int
    """Another number with every change of the credentials."""
    created_ms: int
    changed_ms: int
    suspended: dict[str, Suspension] = {}
    """By audience: messages wait in their mailboxes until a test passes or credentials change."""
    test: BridgeTest | None = None
