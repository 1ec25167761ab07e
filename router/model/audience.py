"""Users and groups: names behind which devices stand."""

import enum
from urllib.parse import quote, unquote

import msgspec

from router.model.ids import Partition, ProjectId, partition_of_audience


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
