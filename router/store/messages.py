"""The status of messages."""

from typing import Final

from router.model.ids import DeviceId, MessageId, ProjectId
from router.model.receipt import Event
from router.model.status import MessageStatus, TimelineEntry, furthest, in_order
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields

_TARGET: Final = "token"
"""The kind of target; a message in a mailbox was sent to one token."""


class Messages:
    """Reads what became of messages."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def status(self, message: MessageId) -> MessageStatus | None:
        """Give the status of a message; None where it is not known (any more).

        Raises:
            StoreUnavailableError: the store did not answer in time.
        """
        return read_status(message, await self._store.batch.call("HGETALL", keys.message(message)))


def device_of(head: Reply) -> DeviceId | None:
    """Take the device from the head field of a status."""
    return DeviceId(head.decode().split("|", 2)[1]) if isinstance(head, bytes) else None


def read_status(message: MessageId, reply: Reply) -> MessageStatus | None:
    """Read a status hash, given as field, value, field, value."""
    flat = [item for item in fields(reply) if isinstance(item, bytes)]
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    head = found.get(b"i")
    if head is None:
        return None
    project, device, created, expires, send_at, seq, collapse = head.decode().split("|", 6)
    first = Event.SCHEDULED if send_at != "0" else Event.ACCEPTED
    entries = [TimelineEntry(first, int(created))]
    for field, value in found.items():
        if field.startswith(b"e:"):
            time, _, detail = value.decode("utf-8", "replace").partition("|")
            entries.append(TimelineEntry(Event(field[2:].decode()), int(time), detail))
    timeline = in_order(entries)
    return MessageStatus(
        id=message,
        project=ProjectId(project),
        device=DeviceId(device),
        target=_TARGET,
        state=furthest(timeline),
        created_ms=int(created),
        expires_ms=int(expires),
        send_at_ms=int(send_at),
        seq=int(seq),
        collapse_key=collapse,
        attempts=int(found.get(b"at", b"0")),
        timeline=timeline,
    )
