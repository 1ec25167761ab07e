"""Webhooks: where a project's callbacks go, and what became of those that never arrived."""

import enum
import zlib
from typing import Final

import msgspec

from router.model.ids import PARTITIONS, Partition, ProjectId

LANES: Final = 8
"""Requests at once to one endpoint. A device keeps to one lane, and a lane to one request."""
BATCH: Final = 100
"""Receipts in one callback."""
MAX_WEBHOOKS: Final = 10
"""Webhooks of one project."""


class Kind(enum.StrEnum):
    """What a callback tells."""

    RECEIPTS = "message.receipts"
    MESSAGE = "device.message"
    UNREGISTERED = "device.unregistered"


class Secret(msgspec.Struct, frozen=True):
    """A secret that requests are signed with; `until_ms` 0 for the current one."""

    value: str
    until_ms: int = 0


class Webhook(msgspec.Struct, frozen=True):
    """An endpoint as its project set it up."""

    id: str
    project: ProjectId
    url: str
    events: frozenset[Kind]
    secrets: tuple[Secret, ...]
    """The current one first."""
    created_ms: int
    disabled_ms: int = 0
    disabled_reason: str = ""

    def valid_secrets(self, now_ms: int) -> tuple[str, ...]:
        """Give the secrets that a request of this time is signed with."""
        return tuple(s.value for s in self.secrets if not s.until_ms or s.until_ms > now_ms)


class Health(msgspec.Struct, frozen=True):
    """How an endpoint has answered; times in epoch milliseconds, 0 for never."""

    success_ms: int = 0
    failure_ms: int = 0
    failing_since_ms: int = 0
    error: str = ""
    """What the last failure was."""


class Attempt(msgspec.Struct, frozen=True):
    """One request of a callback, or why none was made."""

    time_ms: int
    status: int = 0
    """HTTP status of the answer; 0 without one."""
    error: str = ""


class Callback(msgspec.Struct, frozen=True):
    """A callback whose id and body are fixed; it is at the head of its lane."""

    id: str
    body: bytes
    receipts: int
    """How many it carries; 0 for a kind without receipts."""
    created_ms: int
    """When the oldest of what it tells was queued; its retries count from here."""
    history: tuple[Attempt, ...] = ()


class DeadLetter(msgspec.Struct, frozen=True):
    """A callback that was given up."""

    id: str
    webhook: str
    lane: int
    kind: str
    receipts: int
    created_ms: int
    died_ms: int
    reason: str
    history: tuple[Attempt, ...]
    body: bytes


def partition_of_webhook(webhook: str) -> Partition:
    """Name the partition that holds a webhook's queues, and whose owner sends its callbacks."""
    return Partition(f"{zlib.crc32(webhook.encode()) % PARTITIONS:02x}")


def lane_of(partition: Partition) -> int:
    """Give the lane that all events of a partition take."""
    return int(partition, 16) % LANES
