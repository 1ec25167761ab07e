"""What sends are answered."""

import msgspec

from gateway.api import errors


class Sent(msgspec.Struct, frozen=True):
    """The message was accepted: it is stored until its device acks it or it expires."""

    name: str


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The name of an accepted message, or why it was refused."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    error: errors.ErrorContent | msgspec.UnsetType = msgspec.UNSET


class BatchResponse(msgspec.Struct, frozen=True):
    """What became of each message, in the order of the request."""

    responses: list[Outcome]
