"""Where bridges reach devices: registered, found again under another device, given up.

Before: `router.registration`, or a worker whose timer is due. After: `router.store.addresses`,
which remembers who has an address, and the mailbox, which is what is true. An app that is installed
again is a new device with the address of the old one; the address is taken from that, or people
would see everything twice. The order is: note the new holder beside the old one, write the mailbox,
take the address from the old one, forget that. Whoever dies between, the next to register sees to
it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from router.bridge import AnyBridge
from router.model.device import NO_CONTACT, Contact
from router.model.errors import PushError
from router.model.ids import DeviceId, ProjectId, partition_of
from router.policy.bridge_fields import refuse
from router.policy.destinations import url_violation
from router.store.addresses import Addresses
from router.store.bridge_jobs import BridgeJobs
from router.store.mailbox import Mailboxes
from router.store.timers import STALE, Timers

_DAY_MS: Final = 86_400_000
_PLACE_DIGITS: Final = 24


class Known(Protocol):
    """What is known of the bridges that projects have set up (`router.bridging.directory`)."""

    async def has(self, project: ProjectId, name: str) -> bool:
        """Tell whether a project has a bridge, for certain."""


class Reach(msgspec.Struct, frozen=True, gc=False):
    """A contact, and the place in the index that all registrations of its address share."""

    contact: Contact
    place: str = ""


NO_REACH: Final = Reach(NO_CONTACT)


class Contacts:
    """Registers where bridges reach devices.

    Args:
        bridges: every kind that there is.
        known: which of them projects have.
        addresses: who has an address.
        mailboxes: what is true.
        jobs: takes a bridge from a device.
        now_ms: the clock, epoch milliseconds.
        days: after which a contact is given up, unless the device says it again.
        allow_private: whether devices may name hosts without a public address.
    """

    def __init__(  # noqa: PLR0913 - wired once
        self,
        bridges: Mapping[str, AnyBridge],
        known: Known,
        addresses: Addresses,
        mailboxes: Mailboxes,
        jobs: BridgeJobs,
        now_ms: Callable[[], int],
        days: int,
        *,
        allow_private: bool,
    ) -> None:
        self._bridges = bridges
        self._known = known
        self._addresses = addresses
        self._mailboxes = mailboxes
        self._jobs = jobs
        self._now_ms = now_ms
        self._days = days
        self._allow_private = allow_private

    async def read(self, project: ProjectId, raw: Mapping[str, object]) -> Reach:
        """Read the object `bridge` of a registration.

        Raises:
            PushError: INVALID_ARGUMENT, naming each bad field and what it accepts; or the project
                has no such bridge.
            StoreUnavailableError: the store is away.
        """
        name = raw.get("type")
        if not isinstance(name, str) or name not in self._bridges:
            raise _refusal("type", f"must be one of {', '.join(self._bridges)}")
        bridge = self._bridges[name]
        address = bridge.address(raw)
        field, url = address.named_url
        if url and (fault := url_violation(url, allow_private=self._allow_private)) is not None:
            # A name is looked up when it is connected to, and refused there.
            raise _refusal(field, f"must be {fault.description}")
        if not await self._known.has(project, name):
            raise _refusal("type", f"the project has no bridge {name}: its owner adds one first")
        now_ms = self._now_ms()
        text = msgspec.json.encode(address).decode()
        contact = Contact(name, text, now_ms, now_ms + self._days * _DAY_MS)
        return Reach(contact, _place(address.identity))

    async def claim(self, project: ProjectId, device: DeviceId, reach: Reach) -> list[DeviceId]:
        """Note that a device is about to have an address; give who may have it still.

        Raises:
            StoreUnavailableError: the store is away.
        """
        if not reach.place:
            return []
        name, keep_ms = reach.contact.bridge, self._days * _DAY_MS
        return await self._addresses.claim(project, name, reach.place, device, keep_ms)

    async def settle(
        self, project: ProjectId, device: DeviceId, reach: Reach, former: Sequence[DeviceId]
    ) -> None:
        """Take an address from those that had it, now that a device has it.

        Raises:
            StoreUnavailableError: the store is away; the next registration goes on.
        """
        if not former:
            return
        for other in former:
            await self._take(other, reach, f"replaced by {device}")
        await self._addresses.settle(project, reach.contact.bridge, reach.place, device)

    async def _take(self, device: DeviceId, reach: Reach, reason: str) -> None:
        br = await self._mailboxes.bridge_of(device)
        if not br:
            return
        name, _, address = br.decode().split("|", 2)
        if name != reach.contact.bridge:
            return
        try:
            held = self._bridges[name].address(msgspec.json.decode(address))
        except PushError:  # what an older version took, this one does not; it is no matter of ours
            return
        if _place(held.identity) == reach.place:
            await self._jobs.drop_address(device, br, reason, self._now_ms())


class StaleContacts:
    """Gives contacts up that no device says any more.

    Args:
        mailboxes: what is true.
        jobs: takes a bridge from a device.
        timers: when to look.
        days: after which a contact is given up.
    """

    def __init__(self, mailboxes: Mailboxes, jobs: BridgeJobs, timers: Timers, days: int) -> None:
        self._mailboxes = mailboxes
        self._jobs = jobs
        self._timers = timers
        self._days = days

    async def expire(self, subject: str, now_ms: int) -> None:
        """Give up a contact whose device has not said it again for long.

        Raises:
            StoreUnavailableError: the store is away; the timer stands.
        """
        device = DeviceId(subject)
        br = await self._mailboxes.bridge_of(device)
        registered_ms = int(br.split(b"|", 2)[1]) if br else 0
        stale_ms = registered_ms + self._days * _DAY_MS
        if stale_ms > now_ms:
            await self._timers.put_off(partition_of(device), STALE, subject, stale_ms)
            return
        if br:
            await self._jobs.drop_address(
                device, br, f"not registered again for {self._days} days", now_ms
            )
        await self._timers.done(partition_of(device), STALE, subject, now_ms)


def _place(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:_PLACE_DIGITS]


def _refusal(field: str, says: str) -> PushError:
    return refuse("bridge", [(field, says)])
