"""Who has an address at a bridge's provider: by its hash, beside whom it was taken from.

Before: `router.contacts`. What a mailbox says is true; this only finds the mailboxes to look at. An
entry lasts as long as a contact that is not said again, so nothing has to tidy up.
"""

from router.model.ids import DeviceId, ProjectId, partition_of_owner
from router.store import keys
from router.store.connection import Store
from router.store.devices import text
from router.store.link import fields


class Addresses:
    """The index of addresses.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function

    async def claim(
        self, project: ProjectId, bridge: str, place: str, device: DeviceId, keep_ms: int
    ) -> list[DeviceId]:
        """Note a device as the holder of an address; give those that may have it still."""
        reply = await self._store.batch.fcall(
            self._function("address_claim"),
            (_key(project, bridge, place),),
            (device, keep_ms),
        )
        return [DeviceId(text(former)) for former in fields(reply)]

    async def settle(self, project: ProjectId, bridge: str, place: str, device: DeviceId) -> None:
        """Note that nobody else has the address any more, unless somebody claimed it since."""
        await self._store.batch.fcall(
            self._function("address_settle"), (_key(project, bridge, place),), (device,)
        )


def _key(project: ProjectId, bridge: str, place: str) -> str:
    return keys.address(partition_of_owner(f"{project}:{place}"), project, bridge, place)
