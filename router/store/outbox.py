"""Outboxes: the events of each partition, read by named groups, each with a cursor of its own.

Before: every function of `lua/`. After: `router.receipts`.

A group is a consumer group of the stream, of which only the last delivered id is used: it is the
group's cursor. One worker reads a partition, so nothing needs a list of pending entries, which
would cost the store as much again as the event itself.
"""

import contextlib
from typing import Final, cast

from router.model.errors import StoreReplyError
from router.model.ids import DeviceId, MessageId, Partition, ProjectId, all_partitions
from router.model.receipt import Event, Receipt
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields

QUIET: Final = "~"
"""Stands before the target of a message to many devices of which nobody wants a receipt."""
WHOLE: Final = frozenset({"/", QUIET})
"""With these begins a target, in the place of a device: the event is of the message as a whole."""
RawEntry = tuple[str, bytes, bytes]
"""Id, the field `r`, and `x`, the data of an upstream event."""


class Outbox:
    """Reads events at least once, in order.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursors: dict[tuple[Partition, str], str] = {}

    async def take_over(self, partition: Partition, group: str) -> None:
        """Prepare to read a partition: it goes on behind what its last reader has dealt with."""
        cursor = await self._cursor(partition, group)
        if cursor is None:
            with contextlib.suppress(StoreReplyError):  # it has come to be meanwhile
                await self._store.batch.call(
                    "XGROUP", "CREATE", keys.outbox(partition), group, "0", "MKSTREAM"
                )
            cursor = await self._cursor(partition, group)
        self._cursors[(partition, group)] = cursor or "0-0"

    async def open_group(self, group: str) -> None:
        """Begin a group in every partition, with the events from now on; one that is there stays.

        Its events are kept from then on, also while no worker reads them yet.
        """
        asked = [
            self._store.batch.call(
                "XGROUP", "CREATE", keys.outbox(partition), group, "$", "MKSTREAM"
            )
            for partition in all_partitions()
        ]
        for answer in asked:
            with contextlib.suppress(StoreReplyError):
                await answer

    async def close_group(self, partition: Partition, group: str) -> None:
        """End a group in one partition: nothing is kept for it any more."""
        with contextlib.suppress(StoreReplyError):  # there is no outbox
            await self._store.batch.call("XGROUP", "DESTROY", keys.outbox(partition), group)
        self._cursors.pop((partition, group), None)

    async def read(self, partition: Partition, group: str, limit: int) -> list[tuple[str, Receipt]]:
        """Read up to `limit` entries behind the cursor as (entry id, event); does not wait.

        One entry may hold two events, `sent` and `delivered`; both carry its id.
        """
        outbox, cursor = keys.outbox(partition), self._cursors[(partition, group)]
        reply = await self._store.batch.call("XREAD", "COUNT", limit, "STREAMS", outbox, cursor)
        entries = fields(fields(fields(reply)[0])[1]) if reply else []
        return [pair for entry in entries for pair in _read_entry(fields(entry))]

    async def read_raw(self, partition: Partition, group: str, limit: int) -> list[RawEntry]:
        """Read like `read`, for a reader that is interested in few events: nothing is parsed."""
        return await self.read_after(partition, self._cursors[(partition, group)], limit)

    async def read_after(self, partition: Partition, entry: str, limit: int) -> list[RawEntry]:
        """Read like `read_raw`, behind any entry: for a reader that is ahead of its cursor."""
        outbox = keys.outbox(partition)
        reply = await self._store.batch.call("XREAD", "COUNT", limit, "STREAMS", outbox, entry)
        entries = fields(fields(fields(reply)[0])[1]) if reply else []
        return [_raw(cast("tuple[bytes, list[bytes]]", entry)) for entry in entries]

    async def advance(self, partition: Partition, group: str, entry: str) -> None:
        """Say that everything up to an entry is dealt with."""
        await self._store.batch.call("XGROUP", "SETID", keys.outbox(partition), group, entry)
        self._cursors[(partition, group)] = entry

    async def trim(self, partition: Partition) -> None:
        """Drop what every group has dealt with."""
        cursors = [_identifier(info["last-delivered-id"]) for info in await self.groups(partition)]
        if cursors:
            time, number = min(cursors)
            outbox, keep = keys.outbox(partition), f"{time}-{number + 1}"
            await self._store.batch.call("XTRIM", outbox, "MINID", "~", keep)

    async def depth(self, partition: Partition) -> int:
        """Count the events that the slowest group has not dealt with.

        Where the store does not know exactly, because a group is somewhere in the middle, this is
        the length of the outbox: what was trimmed last bounds the error.
        """
        length = cast("int", await self._store.batch.call("XLEN", keys.outbox(partition)))
        lags = [info.get("lag") for info in await self.groups(partition)]
        return max((lag if isinstance(lag, int) else length for lag in lags), default=length)

    async def _cursor(self, partition: Partition, group: str) -> str | None:
        for info in await self.groups(partition):
            if info["name"] == group.encode():
                return cast("bytes", info["last-delivered-id"]).decode()
        return None

    async def groups(self, partition: Partition) -> list[dict[str, Reply]]:
        """Say what the store knows of each group: fields of XINFO GROUPS by name."""
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


def _identifier(text: Reply) -> tuple[int, int]:
    time, _, number = cast("bytes", text).decode().partition("-")
    return int(time), int(number)


def _raw(entry: tuple[bytes, list[bytes]]) -> RawEntry:
    identifier, flat = entry
    return identifier.decode(), flat[1], flat[3] if len(flat) > 3 else b""  # noqa: PLR2004 - r, x


def _read_entry(entry: list[Reply]) -> list[tuple[str, Receipt]]:
    identifier = cast("bytes", entry[0]).decode()
    flat = [item for item in fields(entry[1]) if isinstance(item, bytes)]
    project, message, device, event, time, accepted, sent, detail = (
        flat[1].decode("utf-8", "replace").split("|", 7)
    )
    kind = Event(event)
    target = ""
    if kind is Event.UPSTREAM:
        message, detail = detail, ""
    if device[:1] in WHOLE:
        device, target = "", device.removeprefix(QUIET)
    receipt = Receipt(
        project=ProjectId(project),
        message=MessageId(message),
        device=DeviceId(device),
        event=kind,
        time_ms=int(time),
        accepted_ms=int(accepted),
        detail=detail,
        data=flat[3] if kind is Event.UPSTREAM else b"",
        target=target,
    )
    if sent == "0":
        return [(identifier, receipt)]
    told = Receipt(receipt.project, receipt.message, receipt.device, Event.SENT, int(sent))
    return [(identifier, told), (identifier, receipt)]
