"""Jobs of messages to topics: what they carry stands in one place, and so do their numbers.

Before: `router.store.bridge_jobs`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from router.model.ids import MessageId, ProjectId, TopicName
from router.model.message import ReceiptMode
from router.model.receipt import Event
from router.model.topic import DeviceEvent
from router.store import keys
from router.store.connection import Store
from router.store.devices import text
from router.store.link import Reply, fields
from router.store.messages import TOPIC_MARK
from router.store.topics import Topics

_CONTENT_MS: Final = 2_000
"""So long a message that was taken back may still be given out."""
_CONTENTS: Final = 256
COPY_PARTS: Final = 3
"""What a function of the store gives of each copy."""


class Content(NamedTuple):
    """What a message to a topic carries, whoever gets it."""

    until_ms: int
    frame: bytes
    part: bytes


class TopicJobs:
    """Reads what messages to topics carry, and counts what bridges did with them.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._topics = Topics(store)
        self._contents: dict[MessageId, Content] = {}

    async def content(self, message: MessageId, now_ms: int) -> Content | None:
        """Read frame and part of a message, at most every few seconds; None where it is gone."""
        known = self._contents.get(message)
        if known is not None and now_ms < known.until_ms <= now_ms + _CONTENT_MS:
            return known
        self._contents.pop(message, None)
        batch = self._store.batch
        asked = await batch.call("HMGET", keys.message(message), "i", "f", "bp")
        head, frame, part = fields(asked)
        if head is None:
            return None
        project, target, _, _, _, seq, _ = text(head).split("|", 6)
        if frame is None:
            log = keys.topic_log(ProjectId(project), TopicName(target.removeprefix(TOPIC_MARK)))
            entries = fields(await batch.call("XRANGE", log, f"{seq}-0", f"{seq}-0"))
            if not entries:
                return None
            frame = fields(fields(entries[0])[1])[3]
        if len(self._contents) >= _CONTENTS:
            self._contents.pop(next(iter(self._contents)))
        content = Content(now_ms + _CONTENT_MS, cast("bytes", frame), cast("bytes", part or b""))
        self._contents[message] = content
        return content

    async def count(self, copies: Sequence[Reply], event: Event, now_ms: int) -> None:
        """Add to the numbers of messages to topics, as shards do for what devices did."""
        numbers: Counter[tuple[MessageId, ProjectId]] = Counter()
        devices: dict[tuple[MessageId, ProjectId], list[DeviceEvent]] = {}
        for at in range(0, len(copies), COPY_PARTS):
            kept, project, receipts = map(text, copies[at : at + COPY_PARTS])
            message, _, device = kept.partition(".")
            place = MessageId(message), ProjectId(project)
            if receipts == ReceiptMode.DEVICE.value[0]:
                devices.setdefault(place, []).append(DeviceEvent(device, event, now_ms))
            elif receipts == ReceiptMode.AGGREGATE.value[0]:
                numbers[place] += 1
        for (message_id, owner), number in numbers.items():
            await self._topics.count(message_id, owner, {event: number}, now_ms)
        for (message_id, owner), events in devices.items():
            await self._topics.count_devices(message_id, owner, events)
