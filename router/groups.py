"""Groups: devices that an app server lists, to send to all of them.

Before: `gateway.api.resources.groups`. After: `router.store.members`. A device belongs to a group
until it is removed, or until its registration ends.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from router.model.audience import Audience, AudienceKind
from router.model.cast import Member
from router.model.errors import ErrorCode, PushError
from router.model.ids import ENTROPY_BYTES, DeviceId, GroupName, ProjectId, new_stamp, parse_token
from router.store.members import Members

DEFAULT_LIMIT: Final = 500


class GroupOutcome(enum.Enum):
    """What became of one token of many."""

    DONE = "ok"
    UNREGISTERED = "unregistered"
    SENDER_ID_MISMATCH = "mismatch"
    FULL = "full"


class GroupSize(msgspec.Struct, frozen=True):
    """A group in a list; `devices` may count some that unregistered since."""

    group: str
    devices: int


class Groups:
    """Makes, changes and lists groups.

    Args:
        members: where they are stored.
        entropy: gives so many random bytes.
        limit: devices of one group.
    """

    def __init__(
        self, members: Members, entropy: Callable[[int], bytes], limit: int = DEFAULT_LIMIT
    ) -> None:
        self._members = members
        self._entropy = entropy
        self._limit = limit

    @property
    def limit(self) -> int:
        """How many devices a group has at most."""
        return self._limit

    async def create(
        self, project: ProjectId, group: GroupName, tokens: Sequence[str]
    ) -> list[GroupOutcome]:
        """Make a group of the devices that these tokens are of.

        Returns:
            What became of each token, in order.

        Raises:
            PushError: ALREADY_EXISTS.
            StoreUnavailableError: the store is away.
        """
        stamp = new_stamp(self._entropy(ENTROPY_BYTES))
        if not await self._members.create_group(project, group, stamp):
            raise PushError(ErrorCode.ALREADY_EXISTS, f"The group {group} exists: add to it.")
        return await self.add(project, group, tokens)

    async def add(
        self, project: ProjectId, group: GroupName, tokens: Sequence[str]
    ) -> list[GroupOutcome]:
        """Put devices into a group; returns and raises as `create`, and NOT_FOUND."""
        outcomes, found = await self._resolved(project, tokens)
        added = await self._add(project, group, list(found.values()))
        if not all(added):
            await self.devices(project, group)  # without those that have unregistered
            added = await self._add(project, group, list(found.values()))
        for index, done in zip(found, added, strict=True):
            outcomes[index] = GroupOutcome.DONE if done else GroupOutcome.FULL
        return outcomes

    async def remove(
        self, project: ProjectId, group: GroupName, tokens: Sequence[str]
    ) -> list[GroupOutcome]:
        """Take devices out of a group; it is no error where one is not in it.

        Raises:
            PushError: NOT_FOUND.
            StoreUnavailableError: the store is away.
        """
        listed = {one.device: one for one in await self._listed(project, group)}
        outcomes, found = await self._resolved(project, tokens)
        held = [listed[one.device] for one in found.values() if one.device in listed]
        await self._members.remove(project, _audience(group), held)
        for index in found:
            outcomes[index] = GroupOutcome.DONE
        return outcomes

    async def devices(self, project: ProjectId, group: GroupName) -> list[DeviceId]:
        """Give a group's devices, by id; those that have unregistered fall out here.

        Raises:
            PushError: NOT_FOUND.
            StoreUnavailableError: the store is away.
        """
        audience, listed = _audience(group), await self._listed(project, group)
        holders = await self._members.holders([member.device for member in listed])
        pairs = list(zip(listed, holders, strict=True))
        stale = [one for one, holder in pairs if not holder.belongs(project, audience, one)]
        await self._members.remove(project, audience, stale)
        return sorted(one.device for one, holder in pairs if holder.belongs(project, audience, one))

    async def delete(self, project: ProjectId, group: GroupName) -> None:
        """Forget a group.

        Raises:
            PushError: NOT_FOUND.
            StoreUnavailableError: the store is away.
        """
        if not await self._members.delete_group(project, group):
            raise _unknown(group)

    async def page(self, project: ProjectId, after: str, limit: int) -> list[GroupSize]:
        """List groups behind a name, in the order of their names' bytes.

        Raises:
            StoreUnavailableError: the store is away.
        """
        found = await self._members.groups(project, after, limit)
        return [GroupSize(name, size) for name, size in found]

    async def _listed(self, project: ProjectId, group: GroupName) -> Sequence[Member]:
        listed = await self._members.listed(project, _audience(group))
        if listed is None:
            raise _unknown(group)
        return listed

    async def _add(
        self, project: ProjectId, group: GroupName, members: Sequence[Member]
    ) -> Sequence[bool]:
        if not members:
            await self._listed(project, group)
            return []
        added = await self._members.add_to_group(project, group, members, self._limit)
        if added is None:
            raise _unknown(group)
        return added

    async def _resolved(
        self, project: ProjectId, tokens: Sequence[str]
    ) -> tuple[list[GroupOutcome], dict[int, Member]]:
        """Find the devices of tokens; what is none, or another project's, has its outcome."""
        parsed = {index: token for index, text in enumerate(tokens) if (token := parse_token(text))}
        holders = await self._members.holders([token.device for token in parsed.values()])
        outcomes = [GroupOutcome.UNREGISTERED] * len(tokens)
        found: dict[int, Member] = {}
        for (index, token), holder in zip(parsed.items(), holders, strict=True):
            if not holder.project or holder.nonce != token.nonce:
                continue
            if holder.project != project:
                outcomes[index] = GroupOutcome.SENDER_ID_MISMATCH
            else:
                found[index] = Member(token.device, holder.registered)
        return outcomes, found


def _audience(group: GroupName) -> Audience:
    return Audience(AudienceKind.GROUP, group)


def _unknown(group: GroupName) -> PushError:
    return PushError(ErrorCode.NOT_FOUND, f"The project has no group {group}.")
