"""Who belongs to a user or a group.

Before: `router.binding`, `router.groups`, `router.spread`. A list names devices that may be
members; what the mailbox of a device says is true. Lists and mailboxes stand in different
partitions, so a list may hold more than is true, never less for long: who meets a stale entry
removes it.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, cast

from router.model.audience import Audience
from router.model.cast import Member
from router.model.ids import (
    DeviceId,
    GroupName,
    ProjectId,
    UserName,
    partition_of,
)
from router.policy.limits import WINDOW
from router.store import keys
from router.store.casts import members_key
from router.store.connection import Store
from router.store.devices import text
from router.store.link import Reply, fields
from router.store.timers import BIND

_MADE: Final = "#"
"""The field of a group that says that it exists; no device has such an id."""


class Holder(NamedTuple):
    """What a mailbox says of its device; `project` is empty where there is no registration."""

    project: str
    nonce: str
    user: str
    registered: str
    """When it registered, as the mailbox writes it."""

    def belongs(self, project: ProjectId, audience: Audience, member: Member) -> bool:
        """Tell whether the device is a member still."""
        proofs = (f"u:{self.user}", f"ca:{self.registered}")
        return self.project == project and member.proof(audience) in proofs


class Members:
    """Lists of the devices of users and groups.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        self._settle_ms = store.options.ack_timeout_ms
        self._retention_ms = store.options.retention_ms

    # Either kind.

    async def listed(self, project: ProjectId, audience: Audience) -> list[Member] | None:
        """Give the entries of a list, stale ones too; None where there is none."""
        flat = fields(await self._store.batch.call("HGETALL", members_key(project, audience)))
        words = [text(word) for word in flat]
        entries = zip(words[::2], words[1::2], strict=True)
        found = [Member(DeviceId(device), stamp) for device, stamp in entries if device != _MADE]
        return found if flat else None

    async def sizes(
        self, project: ProjectId, audiences: Collection[Audience]
    ) -> dict[Audience, int]:
        """Count the entries of lists, stale ones too, and of a group one more."""
        batch = self._store.batch
        asked = [(one, batch.call("HLEN", members_key(project, one))) for one in audiences]
        return {one: cast("int", await reply) for one, reply in asked}

    async def holders(self, devices: Sequence[DeviceId]) -> list[Holder]:
        """Read what the mailboxes of devices say, in order."""
        batch = self._store.batch
        asked = [batch.call("HMGET", keys.mailbox(one), "p", "n", "u", "ca") for one in devices]
        return [Holder(*map(text, fields(await reply))) for reply in asked]

    async def remove(
        self, project: ProjectId, audience: Audience, members: Sequence[Member]
    ) -> None:
        """Remove entries, unless they were made anew meanwhile."""
        calls = [
            self._store.batch.fcall(
                self._function("member_remove"),
                (members_key(project, audience),),
                (member.device, member.stamp),
            )
            for member in members
        ]
        for call in calls:
            await call

    # Users.

    async def users(self, devices: Sequence[DeviceId]) -> dict[DeviceId, UserName]:
        """Give whose each of some devices is, without those that are nobody's."""
        batch = self._store.batch
        asked = [(device, batch.call("HGET", keys.mailbox(device), "u")) for device in devices]
        found = [(device, text(await reply)) for device, reply in asked]
        return {device: UserName(user) for device, user in found if user}

    async def add_to_user(
        self, project: ProjectId, user: UserName, member: Member, limit: int
    ) -> bool:
        """Put a device into a user's list; False where it is full. A limit of 0 is none."""
        return bool(
            await self._store.batch.fcall(
                self._function("user_add"),
                (keys.user(project, user),),
                (member.device, member.stamp, limit),
            )
        )

    async def bind(
        self, project: ProjectId, device: DeviceId, user: str, now_ms: int
    ) -> UserName | None:
        """Set or clear the user in a mailbox, and a timer that looks after list and messages.

        Returns:
            The user before, empty for none; None where the project has no such device.
        """
        reply = fields(
            await self._store.batch.fcall(
                self._function("bind"),
                (keys.mailbox(device), keys.timers(partition_of(device))),
                (device, project, user, now_ms + self._settle_ms),
            )
        )
        return UserName(text(reply[1])) if reply[0] else None

    async def leave(self, device: DeviceId, now_ms: int) -> None:
        """Drop what a mailbox holds of messages to users whose the device is not."""
        after: Reply = b"0"
        while after is not None:
            after = await self._store.batch.fcall(
                self._function("leave"),
                keys.of_device(device),
                (device, cast("bytes", after), now_ms, self._retention_ms),
            )

    async def bound(self, device: DeviceId, now_ms: int) -> None:
        """Remove the timer that a `bind` at `now_ms` or before has set."""
        timers, due = keys.timers(partition_of(device)), now_ms + self._settle_ms
        await self._store.batch.fcall(
            self._function("timer_done"), (timers,), (f"{BIND}:{device}", due)
        )

    # Groups.

    async def create_group(self, project: ProjectId, group: GroupName, stamp: str) -> bool:
        """Make a group; False where there is one that has another stamp."""
        batch = self._store.batch
        listed = ("ZADD", keys.groups(project), 0, group)
        await batch.call(*listed)
        made = await batch.fcall(
            self._function("group_create"), (keys.group(project, group),), (stamp,)
        )
        # Once more: a deletion under way may have taken the name off the list.
        await batch.call(*listed)
        return bool(made)

    async def delete_group(self, project: ProjectId, group: GroupName) -> bool:
        """Forget a group; False where there is none."""
        batch = self._store.batch
        gone = await batch.call("DEL", keys.group(project, group))
        await batch.call("ZREM", keys.groups(project), group)
        return bool(gone)

    async def groups(self, project: ProjectId, after: str, limit: int) -> list[tuple[str, int]]:
        """List groups behind a name, in order, with how many entries they have."""
        batch = self._store.batch
        start = f"({after}" if after else "-"
        found = await batch.call(
            "ZRANGE", keys.groups(project), start, "+", "BYLEX", "LIMIT", 0, limit
        )
        names = [text(name) for name in fields(found)]
        asked = [batch.call("HLEN", keys.group(project, GroupName(name))) for name in names]
        sizes = [cast("int", await reply) for reply in asked]
        # One without `#` is being made or deleted at this moment: it counts as 0 entries.
        return [(name, max(size - 1, 0)) for name, size in zip(names, sizes, strict=True)]

    async def add_to_group(
        self, project: ProjectId, group: GroupName, members: Sequence[Member], limit: int
    ) -> list[bool] | None:
        """Put devices into a group, each as far as there is room; None without such a group."""
        replies: list[Reply] = [
            await self._store.batch.fcall(
                self._function("group_add"),
                (keys.group(project, group),),
                (limit, *(part for one in members[start : start + WINDOW] for part in one)),
            )
            for start in range(0, len(members), WINDOW)
        ]
        if any(reply is None for reply in replies):
            return None
        return [bool(added) for reply in replies for added in fields(reply)]
