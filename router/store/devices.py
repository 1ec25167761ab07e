"""Registrations: the part of a mailbox that names its device."""

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from router.model.device import Contact, Device
from router.model.hint import Route
from router.model.ids import DeviceId, ProjectId, ShardId, partition_of
from router.store import keys
from router.store.connection import Store
from router.store.link import Argument, Reply, fields

_FIELDS: Final = {
    "platform": "pl",
    "app_version": "av",
    "language": "la",
    "timezone": "tz",
    "region": "rg",
    "attributes": "at",
    "user": "u",
}
"""Fields of Device that may be set, and their names in the mailbox."""
_PROFILE: Final = frozenset({"platform", "app_version", "language", "region", "attributes"})
"""What filters ask for: a session of the device has to know them."""
_READ: Final = ("p", *_FIELDS.values(), "ca", "sa", "sh", "n", "br")
_attributes = msgspec.json.Decoder(dict[str, str])


def text(reply: Reply) -> str:
    """Read a string reply; nil is the empty one."""
    return reply.decode() if isinstance(reply, bytes) else ""


def route(shard: Reply, epoch: Reply) -> Route:
    """Read a route of two elements of a reply."""
    return Route(ShardId(text(shard)), cast("int", epoch))


def optional_route(reply: list[Reply], at: int) -> Route | None:
    """Read the route that may end a reply."""
    if len(reply) <= at or not reply[at]:
        return None
    return route(reply[at], reply[at + 1])


class Devices:
    """Registers devices and changes their registrations.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        options = store.options
        self._retention_ms = options.retention_ms
        self._max_pending = options.max_pending
        self._ack_timeout_ms = options.ack_timeout_ms

    async def register(
        self,
        device: Device,
        nonce: str,
        credential_hash: str,
        now_ms: int,
        bridge: Contact | None = None,
    ) -> bool:
        """Register a device; False where its id is taken by another registration."""
        values: list[str] = [] if bridge is None else ["br", bridge.field]
        for name, field in _FIELDS.items():
            value = (
                msgspec.json.encode(device.attributes).decode()
                if name == "attributes"
                else cast("str", getattr(device, name))
            )
            values += (field, value)
        return bool(
            await self._store.batch.fcall(
                self._function("register"),
                (
                    keys.mailbox(device.id),
                    keys.index(device.id),
                    keys.timers(partition_of(device.id)),
                ),
                (
                    device.id,
                    device.project,
                    nonce,
                    credential_hash,
                    now_ms,
                    0 if bridge is None else bridge.stale_ms,
                    *values,
                ),
            )
        )

    async def keep_for(self, device: DeviceId, ttl_ms: int) -> None:
        """Have a registration end by itself after `ttl_ms`, unless this is called again."""
        await self._store.batch.call("PEXPIRE", keys.mailbox(device), ttl_ms)

    async def device(self, device: DeviceId) -> Device | None:
        """Read a registration; None where there is none.

        `connected` tells what a shard said last; the shard may be dead.
        """
        batch = self._store.batch
        found = batch.call("HMGET", keys.mailbox(device), *_READ)
        pending = batch.call("ZCARD", keys.index(device))
        values = dict(zip(_READ, map(text, fields(await found)), strict=True))
        count = cast("int", await pending)
        if not values["p"]:
            return None
        bridge, _, since = values["br"].partition("|")
        return Device(
            id=device,
            project=ProjectId(values["p"]),
            platform=values["pl"],
            app_version=values["av"],
            language=values["la"],
            timezone=values["tz"],
            region=values["rg"],
            attributes=_attributes.decode(values["at"] or "{}"),
            user=values["u"],
            created_ms=int(values["ca"] or 0),
            seen_ms=int(values["sa"] or 0),
            connected=bool(values["sh"]),
            pending=count,
            nonce=values["n"],
            bridge=bridge,
            bridge_since_ms=int(since.partition("|")[0] or 0),
        )

    async def update(
        self,
        device: DeviceId,
        project: ProjectId,
        changes: Mapping[str, str],
        now_ms: int,
        bridge: Contact | None = None,
    ) -> tuple[Device | None, Route | None]:
        """Change fields by their names in Device; `attributes` is a JSON object of strings.

        `NO_CONTACT` as `bridge` takes the device's bridge from it.

        Returns:
            The device as it is then, None where the project has no such device; and where it is
            connected, if its session has to know of the change.

        Raises:
            KeyError: a field that nobody may set.
        """
        pairs = [part for name, value in changes.items() for part in (_FIELDS[name], value)]
        stale: Argument = "" if bridge is None else bridge.stale_ms
        if bridge is not None and bridge.stale_ms:
            pairs += ("br", bridge.field)
        told = not _PROFILE.isdisjoint(changes)
        remind_ms = now_ms + self._ack_timeout_ms if told else 0
        changed, route = await self._change(device, project, pairs, remind_ms, stale)
        if not changed:
            return None, None
        return await self.device(device), route if told else None

    async def rotate(
        self, device: DeviceId, project: ProjectId, nonce: str, now_ms: int
    ) -> tuple[bool, Route | None]:
        """Give the device a new address; the old one is unregistered at once.

        Returns:
            Whether the project has the device, and where it is connected.
        """
        del now_ms
        return await self._change(device, project, ["n", nonce])

    async def renew_credential(
        self, device: DeviceId, project: ProjectId, credential_hash: str
    ) -> bool:
        """Replace the secret that the device connects with."""
        changed, _ = await self._change(device, project, ["h", credential_hash])
        return changed

    async def bridge_of(self, device: DeviceId) -> bytes:
        """Give the bridge of a device as the mailbox has it; empty where there is none."""
        found = await self._store.batch.call("HGET", keys.mailbox(device), "br")
        return found if isinstance(found, bytes) else b""

    async def credential_of(self, device: DeviceId) -> str | None:
        """Give the hash of the device's secret; None where there is no such device."""
        found = await self._store.batch.call("HGET", keys.mailbox(device), "h")
        return text(found) or None

    async def unregister(
        self, device: DeviceId, project: ProjectId, now_ms: int
    ) -> tuple[bool, Route | None, bytes]:
        """End a registration; pending messages end as dropped, detail `unregistered`.

        Returns:
            Whether the project had the device, where it was connected, and its bridge as the
            mailbox had it.
        """
        reply = fields(
            await self._store.batch.fcall(
                self._function("unregister"),
                keys.of_device(device),
                (device, project, now_ms, self._retention_ms),
            )
        )
        if not reply[0]:
            return False, None, b""
        if reply[2]:
            due: int | None = now_ms
            while due is not None and due <= now_ms:
                due = await self.expire(device, now_ms)
        return True, optional_route(reply, 3), cast("bytes", reply[1])

    async def expire(self, device: DeviceId, now_ms: int) -> int | None:
        """End messages whose time is over, a window a call.

        Returns:
            When to call again (`now_ms` for at once), None where the mailbox is empty.
        """
        due = await self._store.batch.fcall(
            self._function("expire"), keys.of_device(device), (device, now_ms, self._retention_ms)
        )
        return due if isinstance(due, int) else None

    async def _change(
        self,
        device: DeviceId,
        project: ProjectId,
        pairs: list[str],
        remind_ms: int = 0,
        stale: Argument = "",
    ) -> tuple[bool, Route | None]:
        reply = fields(
            await self._store.batch.fcall(
                self._function("update"),
                (keys.mailbox(device), keys.timers(partition_of(device))),
                (device, project, remind_ms, stale, *pairs),
            )
        )
        return bool(reply[0]), optional_route(reply, 1)
