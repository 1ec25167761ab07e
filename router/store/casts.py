"""Messages to users and groups, as far as they stand in one place: accepted, spread, withdrawn.

Before: `router.cast`, `router.spread`. After: `lua/<function>.lua`. The copies are messages of
`router.store.mailbox` like any other, under ids of their own (`router.model.ids.kept_as`).
"""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from router.model.audience import Audience, AudienceKind, parse_target
from router.model.cast import Accepted, CastEnvelope, CastResult, Member, Spreading
from router.model.ids import (
    DeviceId,
    GroupName,
    MessageId,
    ProjectId,
    UserName,
    kept_as,
    partition_of_message,
)
from router.model.limits import UNLIMITED, Rate
from router.model.status import MessageStatus
from router.store import keys
from router.store.connection import Store
from router.store.devices import text
from router.store.link import Reply, fields
from router.store.messages import read_status
from router.store.rates import number

_RESULTS: Final = {
    -1: CastResult.NO_DEVICES,
    -2: CastResult.NO_GROUP,
    -3: CastResult.KEY_REUSED,
}
_REPEATED: Final = -4


def members_key(project: ProjectId, audience: Audience) -> str:
    """Name the key that lists the devices of a user or a group."""
    if audience.kind is AudienceKind.USER:
        return keys.user(project, UserName(audience.name))
    return keys.group(project, GroupName(audience.name))


class Casts:
    """Messages to users and groups.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        self._retention_ms = store.options.retention_ms
        self._again_ms = store.options.ack_timeout_ms

    def begin_cast(self, envelope: CastEnvelope, *, urgent: bool = False) -> asyncio.Future[Reply]:
        """Begin to accept a message; `accepted` reads the answer."""
        project, audience = envelope.project, envelope.audience
        partition = audience.partition(project)
        idempotency: tuple[str, ...] = ()
        if envelope.idempotency_key:
            idempotency = (keys.idempotency(partition, project, envelope.idempotency_key),)
        return self._store.batch.fcall(
            self._function("cast"),
            (
                members_key(project, audience),
                keys.timers(partition),
                keys.outbox(partition),
                keys.message(envelope.message),
                *idempotency,
            ),
            (
                envelope.message,
                audience.target(),
                project,
                envelope.now_ms,
                envelope.expires_ms,
                envelope.collapse_key,
                envelope.frame,
                envelope.send_at_ms,
                envelope.now_ms + self._again_ms,
                self._retention_ms,
                envelope.idempotency_digest,
                envelope.label,
                envelope.bridge,
                envelope.part,
                number(envelope.rate.per_s),
                number(envelope.rate.burst),
            ),
            urgent=urgent,
        )

    @staticmethod
    def accepted(envelope: CastEnvelope, reply: Reply) -> Accepted:
        """Read what `begin_cast` was answered."""
        first, *rest = fields(reply)
        result = cast("int", first)
        if result == _REPEATED:
            return Accepted(CastResult.REPEATED, MessageId(text(rest[0])))
        if result < 0:
            return Accepted(_RESULTS[result], envelope.message)
        return Accepted(CastResult.ACCEPTED, envelope.message, _members(rest))

    async def spread(self, message: MessageId, now_ms: int) -> Spreading | None:
        """Give what is left to do of a message whose timer is due; None where nothing is."""
        batch, partition = self._store.batch, partition_of_message(message)
        head = text(await batch.call("HGET", keys.message(message), "i"))
        if not head:
            await batch.call("ZREM", keys.timers(partition), f"spread:{message}")
            return None
        project, target, _, expires, _, _, collapse_key = head.split("|", 6)
        audience = parse_target(target)
        if audience is None:
            raise ValueError(target)
        reply = await batch.fcall(
            self._function("spread"),
            (
                members_key(ProjectId(project), audience),
                keys.timers(partition),
                keys.outbox(partition),
                keys.message(message),
            ),
            (message, now_ms, now_ms + self._again_ms, self._retention_ms),
        )
        if reply is None:
            return None
        cancelled, accepted, frame, bridge, part, rate, *members = fields(reply)
        accepted_ms = int(text(accepted))
        once = expires == head.split("|", 3)[2]
        return Spreading(
            project=ProjectId(project),
            audience=audience,
            message=message,
            frame=cast("bytes", frame),
            accepted_ms=accepted_ms,
            expires_ms=accepted_ms if once else int(expires),
            members=_members(members),
            collapse_key=collapse_key,
            cancelled=bool(cancelled),
            bridge=text(bridge),
            part=cast("bytes", part),
            rate=_rate(text(rate)),
        )

    async def spread_done(
        self, message: MessageId, now_ms: int, *, taken_back: bool = False, reached: bool = True
    ) -> bool:
        """Note that all copies are made, or taken back; False where they are to be taken back.

        It ends as dropped where it reached nobody: whoever was listed is no member any more.
        """
        partition = partition_of_message(message)
        return bool(
            await self._store.batch.fcall(
                self._function("spread_done"),
                (keys.timers(partition), keys.outbox(partition), keys.message(message)),
                (message, int(taken_back), int(reached), now_ms, self._retention_ms),
            )
        )

    async def keep(self, message: MessageId, now_ms: int) -> None:
        """Keep the status of a message on if one of its copies waits in a mailbox."""
        batch, partition = self._store.batch, partition_of_message(message)
        found = read_status(message, await batch.call("HGETALL", keys.message(message)))
        copies = () if found is None else await self.copies(found)
        pending = any(not copy.has_ended() for copy in copies)
        await batch.fcall(
            self._function("keep"),
            (keys.timers(partition), keys.message(message)),
            (message, now_ms, self._retention_ms, int(pending)),
        )

    async def uncast(
        self, message: MessageId, project: ProjectId, now_ms: int
    ) -> MessageStatus | None:
        """Begin to withdraw a message; None where the project has no such message."""
        partition = partition_of_message(message)
        reply = await self._store.batch.fcall(
            self._function("uncast"),
            (keys.timers(partition), keys.outbox(partition), keys.message(message)),
            (message, project, now_ms, now_ms + self._again_ms, self._retention_ms),
        )
        return read_status(message, reply)

    async def has_copies(self, message: MessageId, devices: Sequence[DeviceId]) -> bool:
        """Tell whether the message entered one of these mailboxes, as far as that is kept."""
        batch = self._store.batch
        asked = [batch.call("EXISTS", keys.message(kept_as(message, one))) for one in devices]
        return any([await reply for reply in asked])

    async def copies(self, status: MessageStatus) -> tuple[MessageStatus, ...]:
        """Read where a message stands for each of its devices, as far as that is kept."""
        batch = self._store.batch
        asked = [
            (kept, batch.call("HGETALL", keys.message(kept)))
            for kept in (kept_as(status.id, device) for device in status.devices)
        ]
        found = [read_status(kept, await reply) for kept, reply in asked]
        return tuple(copy for copy in found if copy is not None)


def _rate(kept: str) -> Rate:
    per_s, _, burst = kept.partition("|")
    return Rate(float(per_s), float(burst)) if kept else UNLIMITED


def _members(flat: list[Reply]) -> tuple[Member, ...]:
    words = [text(word) for word in flat]
    return tuple(
        Member(DeviceId(device), stamp)
        for device, stamp in zip(words[::2], words[1::2], strict=True)
    )
