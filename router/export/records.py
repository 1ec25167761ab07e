"""What is exported of an event: a flat record. Its fields are a contract, docs/export.md.

What a device sends to its app server is not among them: it is told that a message came up, not
what it says. The target stands in the events of a message as a whole: `message_id` joins them with
those of its devices, as the outbox does not repeat it there.
"""

from typing import Final

import msgspec

from router.model.audience import AudienceKind, parse_target
from router.model.ids import BROADCAST, Partition
from router.model.receipt import Event
from router.store.messages import TOPIC_MARK
from router.store.outbox import QUIET, WHOLE

_SENT_SUFFIX: Final = "-sent"
_OURS: Final = b"_"
"""Projects of our own, such as that of the shards' probes, begin with it; those of users cannot."""
_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: a device says itself when something was opened."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event on one message for one device."""

    event_id: str
    """`<partition>-<entry of the outbox>`: the same whenever the event is exported again."""
    time_ms: int
    event: str
    project: str
    message_id: str | None
    """Of an upstream event, the device's own id; None where a registration ended."""
    device_id: str | None
    """None of a message to many devices, where the event is not of one device."""
    accepted_ms: int | None
    latency_ms: int | None
    """From acceptance, where that is known."""
    detail: str | None
    partition: str
    topic: str | None = None
    """Of a message to a topic, where the event is of the message as a whole."""
    user: str | None = None
    """Of one to a user, likewise; so is the next."""
    group: str | None = None


def read(partition: Partition, entry: str, record: bytes) -> tuple[Record, ...]:
    """Read an entry of an outbox: one event, or two where `sent` came along with another.

    Events of our own projects are nobody's business: they give none.

    Raises:
        ValueError: it is none.
    """
    if record.startswith(_OURS):
        return ()
    text = record.decode("utf-8", "replace")
    project, message, device, event, time, accepted, sent, detail = text.split("|", 7)
    if event == Event.UPSTREAM:
        message, detail = detail, ""
    target = ""
    if device[:1] in WHOLE:
        device, target = "", device.removeprefix(QUIET)
    event_id = f"{partition}-{entry}"
    time_ms, accepted_ms, sent_ms = _in_calendar(int(time)), int(accepted) or None, int(sent)
    last = Record(
        event_id,
        time_ms,
        event,
        project,
        message or None,
        device or None,
        accepted_ms,
        _latency_ms(time_ms, accepted_ms),
        detail or None,
        partition,
        *_target(target),
    )
    if not sent_ms:
        return (last,)
    told = Record(
        event_id + _SENT_SUFFIX,
        sent_ms,
        Event.SENT.value,
        project,
        last.message_id,
        last.device_id,
        accepted_ms,
        _latency_ms(sent_ms, accepted_ms),
        None,
        partition,
    )
    return told, last


def _target(target: str) -> tuple[str | None, str | None, str | None]:
    """Give topic, user and group; one at the most is there."""
    audience = parse_target(target)
    if audience is not None:
        is_user = audience.kind is AudienceKind.USER
        return None, audience.name if is_user else None, None if is_user else audience.name
    topic = target.removeprefix(TOPIC_MARK)
    return (None if topic in {"", BROADCAST} else topic), None, None


def _in_calendar(time_ms: int) -> int:
    return max(0, min(time_ms, _LAST_MS))


def _latency_ms(time_ms: int, accepted_ms: int | None) -> int | None:
    return None if accepted_ms is None else max(0, time_ms - accepted_ms)
