"""Webhooks of projects, and how their endpoints have answered.

Before: `gateway.api.resources.webhooks`. After: `router.callbacks`, whose workers look at the
version once a second and read everything anew when it has changed.
"""

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from router.model.ids import ProjectId
from router.model.webhook import LANES, Health, Webhook, partition_of_webhook
from router.store import keys
from router.store.callbacks import Lanes
from router.store.connection import Store
from router.store.link import Reply, fields

_DISABLED: Final = ":disabled"
_webhook = msgspec.json.Decoder(Webhook)


class Webhooks:
    """Keeps webhooks. Each change counts the version up, after it is written.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lanes = Lanes(store)

    async def put(self, webhook: Webhook) -> None:
        """Keep a webhook, new or changed, without its being disabled."""
        bare = msgspec.structs.replace(webhook, disabled_ms=0, disabled_reason="")
        batch = self._store.batch
        await batch.call("SADD", keys.WEBHOOKS, webhook.project)
        await batch.call(
            "HSET", keys.webhooks(webhook.project), webhook.id, msgspec.json.encode(bare)
        )
        await self._changed()

    async def disable(self, webhook: Webhook, now_ms: int, reason: str) -> None:
        """Send nothing there any more, until `enable`; what waits becomes dead letters at once."""
        field = webhook.id + _DISABLED
        await self._store.batch.call(
            "HSET", keys.webhooks(webhook.project), field, f"{now_ms}|{reason}"
        )
        await self._changed()
        await self._lanes.wake(webhook.id, now_ms)

    async def enable(self, webhook: Webhook) -> None:
        """Send there again."""
        batch = self._store.batch
        await batch.call("HDEL", keys.webhooks(webhook.project), webhook.id + _DISABLED)
        await self._changed()

    async def remove(self, webhook: Webhook) -> None:
        """Forget a webhook with all that waits for it and its dead letters."""
        batch = self._store.batch
        name = keys.webhooks(webhook.project)
        await batch.call("HDEL", name, webhook.id, webhook.id + _DISABLED)
        if not await batch.call("HLEN", name):
            await batch.call("SREM", keys.WEBHOOKS, webhook.project)
        await self._changed()
        await self.purge(webhook.id)

    async def purge(self, webhook: str) -> None:
        """Drop all that waits for an endpoint, its dead letters and its health."""
        batch = self._store.batch
        lanes = range(LANES)
        due = batch.call(
            "ZREM",
            keys.callbacks_due(partition_of_webhook(webhook)),
            *(f"{webhook}:{lane}" for lane in lanes),
        )
        dropped = batch.call(
            "UNLINK",
            keys.callback_health(webhook),
            keys.dead_letters(webhook),
            keys.letters(webhook),
            *(keys.callback_lane(webhook, lane) for lane in lanes),
            *(keys.callback_queue(webhook, lane) for lane in lanes),
        )
        await due
        await dropped

    async def of(self, project: ProjectId) -> Sequence[Webhook]:
        """Give the webhooks of a project, oldest first."""
        return _read_all(await self._store.batch.call("HGETALL", keys.webhooks(project)))

    async def get(self, project: ProjectId, webhook: str) -> Webhook | None:
        """Give a webhook, or None."""
        found = fields(
            await self._store.batch.call(
                "HMGET", keys.webhooks(project), webhook, webhook + _DISABLED
            )
        )
        if not isinstance(found[0], bytes) or webhook.endswith(_DISABLED):
            return None
        return _read(found[0], cast("bytes | None", found[1]))

    async def version(self) -> bytes:
        """Give what differs after any change."""
        found = await self._store.batch.call("GET", keys.WEBHOOKS_VERSION)
        return found if isinstance(found, bytes) else b""

    async def all(self) -> Sequence[Webhook]:
        """Give every webhook of every project."""
        batch = self._store.batch
        projects = [
            ProjectId(cast("bytes", project).decode())
            for project in fields(await batch.call("SMEMBERS", keys.WEBHOOKS))
        ]
        asked = [batch.call("HGETALL", keys.webhooks(project)) for project in projects]
        return [webhook for answer in asked for webhook in _read_all(await answer)]

    async def health(self, webhook: str) -> Health:
        """Tell how an endpoint has answered."""
        reply = fields(
            await self._store.batch.call(
                "HMGET", keys.callback_health(webhook), "ok", "fl", "fs", "er"
            )
        )
        success, failure, since, error = (cast("bytes | None", item) for item in reply)
        return Health(
            success_ms=int(success or 0),
            failure_ms=int(failure or 0),
            failing_since_ms=int(since or 0),
            error=(error or b"").decode("utf-8", "replace"),
        )

    async def _changed(self) -> None:
        await self._store.batch.call("INCR", keys.WEBHOOKS_VERSION)


def _read_all(reply: Reply) -> list[Webhook]:
    texts = [cast("bytes", item) for item in fields(reply)]
    found = {name.decode(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}
    webhooks = [
        _read(value, found.get(name + _DISABLED))
        for name, value in found.items()
        if not name.endswith(_DISABLED)
    ]
    return sorted(webhooks, key=lambda webhook: (webhook.created_ms, webhook.id))


def _read(value: bytes, disabled: bytes | None) -> Webhook:
    webhook = _webhook.decode(value)
    if disabled is None:
        return webhook
    time, _, reason = disabled.decode("utf-8", "replace").partition("|")
    return msgspec.structs.replace(webhook, disabled_ms=int(time), disabled_reason=reason)
