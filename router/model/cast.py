"""Messages to users and groups: one copy in the mailbox of each of their devices."""

import enum
from typing import NamedTuple

import msgspec

from router.model.audience import Audience, AudienceKind
from router.model.ids import DeviceId, MessageId, ProjectId
from router.model.lane import Lane
from router.model.limits import UNLIMITED, Rate


class Member(NamedTuple):
    """A device in a list, with the stamp of its entry; of a group, when the device registered."""

    device: DeviceId
    stamp: str

    def proof(self, audience: Audience) -> str:
        """Give what the mailbox must say for the device to be a member still."""
        if audience.kind is AudienceKind.USER:
            return f"u:{audience.name}"
        return f"ca:{self.stamp}"


class CastEnvelope(msgspec.Struct, frozen=True, gc=False):
    """A message on its way to a user or a group. Times in epoch milliseconds.

    `expires_ms == now_ms` means a TTL of 0, as in an `Envelope`.
    """

    project: ProjectId
    audience: Audience
    message: MessageId
    frame: bytes
    now_ms: int
    expires_ms: int
    collapse_key: str = ""
    lane: Lane = Lane.NORMAL
    send_at_ms: int = 0
    idempotency_key: str = ""
    idempotency_digest: str = ""
    label: str = ""
    bridge: str = ""
    """When a bridge takes over, as in an `Envelope`."""
    part: bytes = b""
    rate: Rate = UNLIMITED
    """What each of its devices takes."""


class CastResult(enum.Enum):
    """How a cast ended."""

    ACCEPTED = "ok"
    REPEATED = "repeat"
    NO_DEVICES = "nobody"
    NO_GROUP = "unknown"
    KEY_REUSED = "reused"


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """What became of a cast, and whose mailboxes it enters; none yet for a scheduled one."""

    result: CastResult
    message: MessageId
    members: tuple[Member, ...] = ()


class Spreading(msgspec.Struct, frozen=True, gc=False):
    """A message whose copies are to be made, or taken back where it was cancelled."""

    project: ProjectId
    audience: Audience
    message: MessageId
    frame: bytes
    accepted_ms: int
    expires_ms: int
    members: tuple[Member, ...]
    collapse_key: str = ""
    lane: Lane = Lane.NORMAL
    """What a worker has to finish takes the normal one."""
    cancelled: bool = False
    bridge: str = ""
    part: bytes = b""
    rate: Rate = UNLIMITED
