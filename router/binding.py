"""Whose device it is: the user in a mailbox, and the list of the user's devices.

Before: `router.registration`, or a worker where a change was cut short. After:
`router.store.members`. The mailbox is what is true. The list may name a device too many, and never
lacks one for long: an entry is made before the mailbox says so, made again after, and a timer in
the device's partition stands in between. What the mailbox holds for another user goes: who signs in
next must not read it.
"""

import contextlib
from collections.abc import Callable
from typing import Final

from router.model.audience import Audience, AudienceKind
from router.model.cast import Member
from router.model.errors import ErrorCode, PushError, StoreUnavailableError
from router.model.ids import ENTROPY_BYTES, DeviceId, ProjectId, UserName, new_stamp
from router.store.members import Members

DEFAULT_LIMIT: Final = 100


class Bindings:
    """Binds devices to users.

    Args:
        members: mailboxes and lists.
        now_ms: the clock, epoch milliseconds.
        entropy: gives so many random bytes.
        limit: devices of one user.
    """

    def __init__(
        self,
        members: Members,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        self._members = members
        self._now_ms = now_ms
        self._entropy = entropy
        self._limit = limit

    async def reserve(self, project: ProjectId, user: str, device: DeviceId) -> None:
        """Make an entry for a device that is about to be the user's.

        Raises:
            PushError: QUOTA_EXCEEDED, the user has too many devices.
            StoreUnavailableError: the store is away.
        """
        if not user or await self._add(project, user, device, self._limit):
            return
        await self.devices(project, user)  # without those that are no longer the user's
        if not await self._add(project, user, device, self._limit):
            text = f"user: TOO_MANY_DEVICES: a user has {self._limit} devices at most"
            raise PushError(
                ErrorCode.QUOTA_EXCEEDED, f"{text} (max_user_devices); unregister one first."
            )

    async def bind(self, project: ProjectId, user: str, device: DeviceId) -> bool:
        """Say in the mailbox whose device it is, empty for nobody's, and keep the rest right.

        Lists, and messages to the user before that wait.

        Returns:
            Whether the project has the device.

        Raises:
            StoreUnavailableError: the store is away; the change may have been made.
        """
        now_ms = self._now_ms()
        before = await self._members.bind(project, device, user, now_ms)
        if before is None:
            return False
        if user:
            await self._add(project, user, device, 0)
        await self._members.leave(device, now_ms)
        await self._members.bound(device, now_ms)
        if before and before != user:
            await self.drop(project, before, device)
        return True

    async def drop(self, project: ProjectId, user: str, device: DeviceId) -> None:
        """Remove a device's entry, unless the device is the user's.

        Where the store is away the entry stays, and who meets it later removes it.
        """
        with contextlib.suppress(StoreUnavailableError):
            listed = await self._members.listed(project, _audience(user)) or []
            await self._current(project, user, [one for one in listed if one.device == device])

    async def user_of(self, device: DeviceId) -> str:
        """Give the user that a mailbox names, empty for none.

        Raises:
            StoreUnavailableError: the store is away.
        """
        return (await self._members.users([device])).get(device, "")

    async def devices(self, project: ProjectId, user: str) -> list[DeviceId]:
        """Give a user's devices, and remove what is in the list and no longer the user's.

        Raises:
            StoreUnavailableError: the store is away.
        """
        listed = await self._members.listed(project, _audience(user)) or []
        return await self._current(project, user, listed)

    async def settle(self, subject: str, now_ms: int) -> None:
        """Finish a change that was cut short: its timer is due.

        Raises:
            StoreUnavailableError: the store is away; the timer stands.
        """
        device = DeviceId(subject)
        (holder,) = await self._members.holders([device])
        if holder.project and holder.user:
            await self._add(ProjectId(holder.project), holder.user, device, 0)
        await self._members.leave(device, now_ms)
        await self._members.bound(device, now_ms)

    async def _add(self, project: ProjectId, user: str, device: DeviceId, limit: int) -> bool:
        member = Member(device, new_stamp(self._entropy(ENTROPY_BYTES)))
        return await self._members.add_to_user(project, UserName(user), member, limit)

    async def _current(self, project: ProjectId, user: str, listed: list[Member]) -> list[DeviceId]:
        """Give those of the entries that are true, and remove the others.

        The mailboxes are read after the list: an entry that looks stale and was made anew since
        then has another stamp, and stays.
        """
        audience = _audience(user)
        holders = await self._members.holders([member.device for member in listed])
        pairs = list(zip(listed, holders, strict=True))
        stale = [one for one, holder in pairs if not holder.belongs(project, audience, one)]
        await self._members.remove(project, audience, stale)
        return [one.device for one, holder in pairs if holder.belongs(project, audience, one)]


def _audience(user: str) -> Audience:
    return Audience(AudienceKind.USER, user)
