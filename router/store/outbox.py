"""Outboxes: the events of each partition, read through consumer groups.

Before: every function of `lua/`. After: `router.receipts`.
"""

import contextlib
from typing import cast

from router.model.errors import StoreReplyError
from router.model.ids import DeviceId, MessageId, Partition, ProjectId
from router.model.receipt import Event, Receipt
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields


class Outbox:
    """Reads events at least once, in order.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._taken_over: dict[tuple[Partition, str], bytes] = {}

    async def ensure_group(self, partition: Partition, group: str) -> None:
        """Prepare to read a partition that was just taken over.

        The reads after it first give what was read before and not acked, by whomever.
        """
        with contextlib.suppress(StoreReplyError):  # the group is there
            await self._store.batch.call(
                "XGROUP", "CREATE", keys.outbox(partition), group, "0", "MKSTREAM"
            )
        self._taken_over[(partition, group)] = b"0-0"

    async def read(
        self, partition: Partition, group: str, consumer: str, limit: int
    ) -> list[tuple[str, Receipt]]:
        """Read up to `limit` entries as (entry id, event); does not wait.

        One entry may hold two events, `sent` and `delivered`; both carry its id.
        """
        place = (partition, group)
        entries: list[Reply] = []
        if (cursor := self._taken_over.get(place)) is not None:
            reply = fields(
                await self._store.batch.call(
                    "XAUTOCLAIM",
                    keys.outbox(partition),
                    group,
                    consumer,
                    0,
                    cursor,
                    "COUNT",
                    limit,
                )
            )
            following, entries = cast("bytes", reply[0]), fields(reply[1])
            if following == b"0-0":
                del self._taken_over[place]
            else:
                self._taken_over[place] = following
        if not entries:
            entries = await self._read_new(partition, group, consumer, limit)
        return [pair for entry in entries for pair in _read_entry(fields(entry))]

    async def ack(self, partition: Partition, group: str, entries: list[str]) -> None:
        """Say that these entries are dealt with."""
        if entries:
            await self._store.batch.call("XACK", keys.outbox(partition), group, *entries)

    async def trim(self, partition: Partition) -> None:
        """Drop what every group has dealt with."""
        outbox = keys.outbox(partition)
        keep = None
        for info in await self._groups(partition):
            oldest = _identifier(info["last-delivered-id"], after=1)
            if info["pending"]:
                summary = fields(
                    await self._store.batch.call("XPENDING", outbox, cast("bytes", info["name"]))
                )
                if isinstance(summary[1], bytes):
                    oldest = min(oldest, _identifier(summary[1]))
            keep = oldest if keep is None else min(keep, oldest)
        if keep is not None:
            await self._store.batch.call("XTRIM", outbox, "MINID", "~", f"{keep[0]}-{keep[1]}")

    async def depth(self, partition: Partition) -> int:
        """Count the events that the slowest group has not read."""
        groups = await self._groups(partition)
        if not groups:
            return cast("int", await self._store.batch.call("XLEN", keys.outbox(partition)))
        lags = [info.get("lag") for info in groups]
        return max((lag for lag in lags if isinstance(lag, int)), default=0)

    async def _read_new(
        self, partition: Partition, group: str, consumer: str, limit: int
    ) -> list[Reply]:
        reply = fields(
            await self._store.batch.call(
                "XREADGROUP",
                "GROUP",
                group,
                consumer,
                "COUNT",
                limit,
                "STREAMS",
                keys.outbox(partition),
                ">",
            )
        )
        return fields(fields(reply[0])[1]) if reply else []

    async def _groups(self, partition: Partition) -> list[dict[str, Reply]]:
        try:
            reply = await self._store.batch.call("XINFO", "GROUPS", keys.outbox(partition))
        except StoreReplyError:  # no such stream yet
            return []
        found = []
        for group in fields(reply):
            flat = fields(group)
            found.append(
                {
                    cast("bytes", name).decode(): value
                    for name, value in zip(flat[::2], flat[1::2], strict=True)
                }
            )
        return found


def _identifier(text: Reply, after: int = 0) -> tuple[int, int]:
    time, _, number = cast("bytes", text).decode().partition("-")
    return int(time), int(number) + after


def _read_entry(entry: list[Reply]) -> list[tuple[str, Receipt]]:
    identifier = cast("bytes", entry[0]).decode()
    flat = [item for item in fields(entry[1]) if isinstance(item, bytes)]
    if not flat:  # trimmed while it was pending
        return []
    project, message, device, event, time, accepted, sent, detail = (
        flat[1].decode("utf-8", "replace").split("|", 7)
    )
    kind = Event(event)
    if kind is Event.UPSTREAM:
        message, detail = detail, ""
    receipt = Receipt(
        project=ProjectId(project),
        message=MessageId(message),
        device=DeviceId(device),
        event=kind,
        time_ms=int(time),
        accepted_ms=int(accepted),
        detail=detail,
        data=flat[3] if kind is Event.UPSTREAM else b"",
    )
    if sent == "0":
        return [(identifier, receipt)]
    told = Receipt(receipt.project, receipt.message, receipt.device, Event.SENT, int(sent))
    return [(identifier, told), (identifier, receipt)]
