"""What callbacks say, as JSON: written once, when an event leaves the outbox."""

from collections.abc import Mapping
from typing import Final

import msgspec

from router.model.audience import parse_target
from router.model.ids import BROADCAST, ProjectId
from router.model.receipt import ENGAGEMENT, Event
from router.model.times import Times
from router.model.webhook import Kind

_json = msgspec.json.Encoder()
_SENT: Final = Event.SENT.value.encode()
_UPSTREAM: Final = Event.UPSTREAM.value.encode()
_UNREGISTERED: Final = Event.UNREGISTERED.value.encode()
_NOBODY: Final[Mapping[bytes, bytes]] = {}
_TOPIC: Final = "/topics/"
_EVERYBODY: Final = f"{_TOPIC}{BROADCAST}".encode()
_ENGAGEMENT: Final = frozenset(event.value.encode() for event in ENGAGEMENT)


class Told(msgspec.Struct, frozen=True, gc=False):
    """What one outbox entry tells: a receipt or two, or a whole body of another kind."""

    kind: Kind
    parts: tuple[bytes, ...]


class Bodies:
    """Writes the bodies of callbacks."""

    def __init__(self) -> None:
        self._times = Times()

    @staticmethod
    def device_of(record: bytes) -> bytes:
        """Give the device of an entry that tells receipts; empty where there is none."""
        _, _, device, event, _ = record.split(b"|", 4)
        whole = device.startswith(b"/")
        return b"" if whole or event in {_UPSTREAM, _UNREGISTERED} else device

    @staticmethod
    def selected(record: bytes) -> bytes:
        """Give the message of an entry that tells of one to a condition or a filter as a whole."""
        _, message, device, _ = record.split(b"|", 3)
        return message if device == _EVERYBODY else b""

    def read(
        self,
        record: bytes,
        data: bytes,
        users: Mapping[bytes, bytes] = _NOBODY,
        selections: Mapping[bytes, bytes] = _NOBODY,
    ) -> Told:
        """Write what an entry of the outbox tells.

        Args:
            record: its field `r`; ids and events are plain, only the detail needs to be quoted.
            data: its field `x`, JSON.
            users: by device, for receipts; each in JSON.
            selections: by message, condition and filter of those that have no other target; JSON.
        """
        project, message, device, event, time, _, sent, detail = record.split(b"|", 7)
        if event == _UPSTREAM:
            return Told(Kind.MESSAGE, (self._message(project, device, int(time), detail, data),))
        if event == _UNREGISTERED:
            body = self._unregistered(project, device, int(time), detail)
            return Told(Kind.UNREGISTERED, (body,))
        whose = _whose(device, users.get(device, b""), selections.get(message, b""))
        if device.startswith(b"/"):
            device = b""
        last = self._receipt(message, device, whose, event, int(time), detail)
        if sent == b"0":
            return Told(Kind.RECEIPTS, (last,))
        first = self._receipt(message, device, whose, _SENT, int(sent), b"")
        return Told(Kind.RECEIPTS, (first, last))

    def around(self, project: ProjectId, now_ms: int) -> tuple[bytes, bytes]:
        """Give what stands before and after the receipts of a `message.receipts`."""
        head = self._head(Kind.RECEIPTS, project.encode(), now_ms)
        return head + b',"receipts":[', b"]}}"

    def _receipt(
        self,
        message: bytes,
        device: bytes,
        whose: bytes,
        event: bytes,
        time_ms: int,
        detail: bytes,
    ) -> bytes:
        text = b'{"message_id":"%b","device_id":"%b"%b,"event":"%b","time":"%b"' % (
            message,
            device,
            whose,
            event,
            self._times.of(time_ms).encode(),
        )
        if not detail:
            return text + b"}"
        name = b"action" if event in _ENGAGEMENT else b"error"
        return b'%b,"%b":%b}' % (text, name, _text(detail))

    def _message(
        self, project: bytes, device: bytes, time_ms: int, identifier: bytes, data: bytes
    ) -> bytes:
        head = self._head(Kind.MESSAGE, project, time_ms)
        return b'%b,"device_id":"%b","message_id":%b,"data":%b}}' % (
            head,
            device,
            _text(identifier),
            data or b"{}",
        )

    def _unregistered(self, project: bytes, device: bytes, time_ms: int, detail: bytes) -> bytes:
        """Tell of the end of a registration, or of its bridge alone."""
        head = self._head(Kind.UNREGISTERED, project, time_ms)
        bridge, _, reason = detail.partition(b"|")
        if not bridge:
            return b'%b,"device_id":"%b"}}' % (head, device)
        text = b'%b,"device_id":"%b","bridge":"%b","reason":%b}}'
        return text % (head, device, bridge, _text(reason))

    def _head(self, kind: Kind, project: bytes, time_ms: int) -> bytes:
        return b'{"type":"%b","timestamp":"%b","data":{"project":"%b"' % (
            kind.value.encode(),
            self._times.of(time_ms).encode(),
            project,
        )


def _whose(device: bytes, user: bytes, selection: bytes) -> bytes:
    """Name the user of a device; or the target, where an event is of the message as a whole."""
    if device == _EVERYBODY:
        return b"," + selection[1:-1] if selection else b""  # the fields of an object
    if device.startswith(b"/"):
        return _whole(device.decode())
    return b',"user":' + user if user else b""


def _whole(target: str) -> bytes:
    audience = parse_target(target)
    if audience is not None:
        return b',"%b":%b' % (audience.kind.value.encode(), _json.encode(audience.name))
    return b',"topic":%b' % _json.encode(target.removeprefix(_TOPIC))


def _text(raw: bytes) -> bytes:
    return _json.encode(raw.decode("utf-8", "replace"))
