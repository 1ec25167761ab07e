"""The status of messages."""

from collections.abc import Sequence
from typing import Final

from router.model.audience import Audience, parse_target
from router.model.ids import BROADCAST, DeviceId, MessageId, ProjectId, TopicName
from router.model.receipt import Event
from router.model.selection import Selection, decode_selection
from router.model.status import MessageStatus, TimelineEntry, furthest, in_order
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields

TOPIC_MARK: Final = "/topics/"
"""What stands before the name of a log, in the place of a device."""
_PER_DEVICE: Final = b"d"
_UNCOUNTED: Final = b"n"


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

    async def statuses(self, messages: Sequence[MessageId]) -> list[MessageStatus | None]:
        """Give several statuses, in order, through one pipeline.

        Raises:
            StoreUnavailableError: the store did not answer in time.
        """
        asked = [self._store.batch.call("HGETALL", keys.message(message)) for message in messages]
        return [
            read_status(message, await answer)
            for message, answer in zip(messages, asked, strict=True)
        ]

    async def selections(self, messages: Sequence[MessageId]) -> dict[MessageId, str]:
        """Give condition and filter of messages, as JSON, as far as they have any and it is kept.

        Raises:
            StoreUnavailableError: the store did not answer in time.
        """
        batch = self._store.batch
        asked = [(one, batch.call("HGET", keys.message(one), "s")) for one in messages]
        found = [(one, await answer) for one, answer in asked]
        return {one: text.decode() for one, text in found if isinstance(text, bytes)}

    async def receivers(self, message: MessageId) -> dict[DeviceId, Event]:
        """Give about a hundred devices that a message to a topic reached, and how far it went.

        Raises:
            StoreUnavailableError: the store did not answer in time.
        """
        reply = await self._store.batch.call("HSCAN", keys.receivers(message), 0, "COUNT", 128)
        flat = [item for item in fields(fields(reply)[1]) if isinstance(item, bytes)]
        found: dict[DeviceId, list[TimelineEntry]] = {}
        for field, time in zip(flat[::2], flat[1::2], strict=True):
            device, _, event = field.decode().partition("|")
            found.setdefault(DeviceId(device), []).append(TimelineEntry(Event(event), int(time)))
        return {device: furthest(tuple(entries)) for device, entries in found.items()}


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
    log: TopicName | None = None
    audience = parse_target(device)
    selection = decode_selection(found.get(b"s", b"").decode())
    if device.startswith(TOPIC_MARK):
        log, device = TopicName(device.removeprefix(TOPIC_MARK)), ""
    elif audience is not None:
        device = ""
    first = Event.SCHEDULED if send_at != "0" else Event.ACCEPTED
    entries = [TimelineEntry(first, int(created))]
    counts: dict[str, int] = {}
    for field, value in found.items():
        if field.startswith(b"n:"):
            counts[field[2:].decode()] = int(value)
        if field.startswith(b"e:"):
            time, _, detail = value.decode("utf-8", "replace").partition("|")
            entries.append(TimelineEntry(Event(field[2:].decode()), int(time), detail))
    timeline = in_order(entries)
    return MessageStatus(
        id=message,
        project=ProjectId(project),
        device=DeviceId(device),
        target=_target(log, selection, audience),
        state=furthest(timeline),
        created_ms=int(created),
        expires_ms=int(expires),
        send_at_ms=int(send_at),
        seq=int(seq),
        collapse_key=collapse,
        attempts=int(found.get(b"at", b"0")),
        timeline=timeline,
        topic=None if log == BROADCAST else log,
        counts=counts,
        per_device=found.get(b"r") == _PER_DEVICE,
        counted=found.get(b"r") != _UNCOUNTED,
        label=found.get(b"l", b"").decode(),
        audience=audience,
        devices=tuple(map(DeviceId, found.get(b"d", b"").decode().split()[::2])),
        spreading=audience is not None and b"f" in found,
        selection=selection,
    )


def _target(log: TopicName | None, selection: Selection | None, audience: Audience | None) -> str:
    if audience is not None:
        return audience.kind.value
    if log is None:
        return "token"
    if log != BROADCAST:
        return "topic"
    return "condition" if selection is not None and selection.condition else "filter"
