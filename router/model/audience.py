"""Users and groups, and messages to them: one copy in the mailbox of each of their devices."""

import enum
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from router.model.ids import DeviceId, MessageId, Partition, ProjectId, partition_of_audience


class AudienceKind(enum.StrEnum):
    """What stands behind a name."""

    USER = "user"
    GROUP = "group"


class Audience(msgspec.Struct, frozen=True, gc=False):
    """A user or a group of a project."""

    kind: AudienceKind
    name: str

    def target(self) -> str:
        """Write it for the head of a status, in the place of a device.

        A user's name may hold any printable character, and bars part the head.
        """
        return f"/{self.kind.value}s/{quote(self.name, safe='')}"

    def partition(self, project: ProjectId) -> Partition:
        """Name the partition of its devices' list."""
        return partition_of_audience(project, self.name)


_PREFIXES = {f"/{kind.value}s/": kind for kind in AudienceKind}


def parse_target(text: str) -> Audience | None:
    """Read what `Audience.target` wrote; None for a device or a topic."""
    for prefix, kind in _PREFIXES.items():
        if text.startswith(prefix):
            return Audience(kind, unquote(text[len(prefix) :]))
    return None


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
    send_at_ms: int = 0
    idempotency_key: str = ""
    idempotency_digest: str = ""


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
    cancelled: bool = False
