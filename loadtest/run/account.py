"""The account of every message: what was accepted, what each device saw, what is missing. Pure.

Messages are numbered within a **stream**: all that one app server sends to one target, one after
another, so that the order of acceptance is the order of the numbers. A device needs to remember of
a stream how far it is and which numbers it lacks, not every id: a run may last for days.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from typing_extensions import override

SHOWN: Final = 20
"""How many ids of each kind a verdict spells out."""
_RECENT: Final = 256
"""So many of the last messages of a stream are known by their ids."""


class Sight(enum.IntEnum):
    """What it is to a device to get a message."""

    FIRST = 0
    """New, and in order."""
    LATE = 1
    """New, after one that was accepted later: the order is broken."""
    REPEAT = 2
    """The same message again, as at-least-once delivery may."""
    DOUBLE = 3
    """The same message again, as another one: the handler sees it twice."""


class Sights:
    """What one device saw of one stream."""

    __slots__ = ("_missing", "_next", "_recent")

    def __init__(self) -> None:
        self._next = 1
        self._missing: set[int] = set()
        self._recent: dict[int, str] = {}

    def see(self, number: int, message: str) -> Sight:
        """Take a message.

        Args:
            number: within the stream, from 1 on.
            message: its id.
        """
        if number < self._next:
            if number not in self._missing:
                known = self._recent.get(number, message)
                return Sight.REPEAT if known == message else Sight.DOUBLE
            self._missing.remove(number)
            sight = Sight.LATE
        else:
            self._missing.update(range(self._next, number))
            self._next = number + 1
            sight = Sight.FIRST
        self._recent[number] = message
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return sight

    def saw(self, number: int) -> bool:
        """Whether it got this one."""
        return number < self._next and number not in self._missing

    def compare(self, sent: "Sent") -> tuple[list[int], list[int]]:
        """Give the numbers that are missing, and those that should not be here."""
        missing = [*sorted(self._missing), *range(self._next, sent.last + 1)]
        excused = {*sent.refused, *sent.unknown}
        strange = [number for number in sent.refused if self.saw(number)]
        strange += range(sent.last + 1, self._next)
        return [number for number in missing if number not in excused], strange


class Sent(msgspec.Struct, omit_defaults=True):
    """What was sent on one stream: numbers 1 to `last`."""

    last: int = 0
    refused: list[int] = []
    """Answered with an error that no retry mends: nothing was accepted."""
    unknown: list[int] = []
    """Without an answer when the run ended: they may arrive or not."""


class Fault(msgspec.Struct, frozen=True, order=True):
    """One message that broke a promise on one device."""

    device: int
    """Its number in the run; -1 where it concerns no single one."""
    stream: str
    number: int
    message: str = ""
    """Its id, where it is known."""

    @override
    def __str__(self) -> str:
        """Write it for a person."""
        where = f"device {self.device}, " if self.device >= 0 else ""
        return f"{where}{self.stream} #{self.number} {self.message}".rstrip()


class Reckoning(msgspec.Struct, omit_defaults=True):
    """What the devices of one process say in the end."""

    missing: list[Fault] = []
    late: list[Fault] = []
    doubled: list[Fault] = []
    strange: list[Fault] = []
    """Got though refused, or never sent."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the account says; a run is good where no list holds anything."""

    accepted: int
    """Messages answered 200."""
    expected: int
    """Deliveries that must follow: one for each device of a message's audience."""
    delivered: int
    """Deliveries that were the first of their message on their device."""
    repeats: int
    """Copies with an id that the device had, which the SDK drops."""
    acked: bool
    """Whether no mailbox held anything in the end."""
    called_back: int = 0
    """Deliveries that a callback told of."""
    expired: int = 0
    """Deliveries that did not happen because the message's TTL was over."""
    dropped: int = 0
    """Deliveries that did not happen because a mailbox was full."""
    overtaken: int = 0
    """Copies of messages to users that came late in a run with faults: what a worker had to finish
    comes when it comes."""
    unknown: int = 0
    """Sends without an answer when the run ended."""
    refused: int = 0
    lost: tuple[Fault, ...] = ()
    out_of_order: tuple[Fault, ...] = ()
    doubled: tuple[Fault, ...] = ()
    strange: tuple[Fault, ...] = ()
    not_called_back: tuple[Fault, ...] = ()
    exceeded: tuple[str, ...] = ()
    """Bounds of the scenario that were not kept, and other things that failed."""

    @property
    def kept(self) -> bool:
        """Whether every promise was kept, and every bound."""
        return self.acked and not any(self.lists.values()) and not self.exceeded

    @property
    def lists(self) -> dict[str, tuple[Fault, ...]]:
        """The broken promises by kind."""
        return {
            "lost": self.lost,
            "out of order": self.out_of_order,
            "seen twice": self.doubled,
            "never sent": self.strange,
            "not called back": self.not_called_back,
        }

    def summary(self) -> str:
        """Say it in one line."""
        counts = {
            "called back": self.called_back,
            "expired": self.expired,
            "dropped": self.dropped,
            "repeats": self.repeats,
            "overtaken": self.overtaken,
            "refused": self.refused,
            "unknown": self.unknown,
        }
        first = (
            f"{self.accepted} accepted",
            f"{self.delivered} of {self.expected} deliveries",
            "all acked" if self.acked else "NOT ALL ACKED",
        )
        return ", ".join([*first, *(f"{count} {name}" for name, count in counts.items() if count)])

    def report(self) -> str:
        """Write it for a person, with the first of the messages that failed."""
        lines = [f"{'kept' if self.kept else 'BROKEN'}: {self.summary()}"]
        lines += self.exceeded
        if not self.acked:
            lines.append("messages were left in mailboxes: acks were lost")
        for name, faults in self.lists.items():
            if faults:
                lines.append(f"{name}: {len(faults)}")
                lines.extend(f"  {fault}" for fault in faults[:SHOWN])
            if len(faults) > SHOWN:
                lines.append(f"  and {len(faults) - SHOWN} more")
        return "\n".join(lines)


def reckon(
    seen: Mapping[tuple[int, str], Sights],
    audience: Iterable[tuple[int, str]],
    sent: Mapping[str, Sent],
) -> Reckoning:
    """Compare what devices saw with what was sent to them.

    Args:
        seen: by device and stream.
        audience: every device with every stream that goes to it.
        sent: by stream; none was sent on one that is missing.
    """
    found = Reckoning()
    nothing = Sights()
    known = set()
    for key in audience:
        known.add(key)
        missing, strange = seen.get(key, nothing).compare(sent.get(key[1], Sent()))
        found.missing += [Fault(*key, number) for number in missing]
        found.strange += [Fault(*key, number) for number in strange]
    for key, sights in seen.items():
        if key not in known:  # of another device's stream, all of it
            found.strange += [Fault(*key, number) for number in sights.compare(Sent())[1]]
    return found


def named(faults: Iterable[Fault], ids: Mapping[tuple[str, int], str]) -> tuple[Fault, ...]:
    """Give the faults with the ids of their messages, in order."""
    return tuple(
        sorted(
            msgspec.structs.replace(
                fault, message=fault.message or ids.get((fault.stream, fault.number), "")
            )
            for fault in faults
        )
    )


def total(reckonings: Sequence[Reckoning]) -> Reckoning:
    """Add up what several processes say."""
    whole = Reckoning()
    for one in reckonings:
        whole.missing += one.missing
        whole.late += one.late
        whole.doubled += one.doubled
        whole.strange += one.strange
    return whole
