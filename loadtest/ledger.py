"""The account of every message: answered 200, seen by a handler, acked. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

SHOWN: Final = 20
"""How many ids of each kind a verdict spells out."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """One message that broke a promise."""

    device: str
    message: str


class Verdict(msgspec.Struct, frozen=True):
    """What the ledger says: every list empty means that each promise was kept."""

    accepted: int
    handled: int
    lost: tuple[Fault, ...] = ()
    """Answered 200, never seen by the handler."""
    doubled: tuple[Fault, ...] = ()
    """Seen by the handler more than once; one entry for each time too many."""
    out_of_order: tuple[Fault, ...] = ()
    """First seen after a message of the same device that was accepted later."""
    unknown: tuple[Fault, ...] = ()
    """Seen by a handler, but never answered 200 for this device."""
    unacked: tuple[Fault, ...] = ()
    """Seen by the handler, but the ack did not reach the store (only where acks were noted)."""

    @property
    def kept(self) -> bool:
        """Whether every message was delivered once, in order, and nothing else was."""
        return not (self.lost or self.doubled or self.out_of_order or self.unknown or self.unacked)

    def report(self) -> str:
        """Write the verdict for a person, with the ids that failed (the first of each kind)."""
        lines = [f"{self.accepted} accepted, {self.handled} handled"]
        for name in ("lost", "doubled", "out_of_order", "unknown", "unacked"):
            faults: tuple[Fault, ...] = getattr(self, name)
            if not faults:
                continue
            lines.append(f"{name.replace('_', ' ')}: {len(faults)}")
            lines += [f"  {fault.device} {fault.message}" for fault in faults[:SHOWN]]
            if len(faults) > SHOWN:
                lines.append(f"  and {len(faults) - SHOWN} more")
        return "\n".join(lines)


class Ledger:
    """Notes what happened, device by device.

    The order of a device's messages is the order of the calls of `accepted`: one sender per device,
    which waits for the answer to one message before it sends the next.
    """

    def __init__(self) -> None:
        self._accepted: dict[str, list[str]] = {}
        self._handled: dict[str, list[str]] = {}
        self._acked: dict[str, set[str]] | None = None

    def accepted(self, device: str, message: str) -> None:
        """Note that a send to `device` was answered 200 with the id `message`."""
        self._accepted.setdefault(device, []).append(message)

    def handled(self, device: str, message: str) -> None:
        """Note that the app's handler on `device` saw `message`."""
        self._handled.setdefault(device, []).append(message)

    def acked(self, device: str, message: str) -> None:
        """Note that the gateway knows the ack. Once noted for one, it is asked for all."""
        if self._acked is None:
            self._acked = {}
        self._acked.setdefault(device, set()).add(message)

    def missing(self) -> int:
        """Count the messages that were accepted and not yet seen by their handler."""
        return sum(
            len(set(ids).difference(self._handled.get(device, ())))
            for device, ids in self._accepted.items()
        )

    def accepted_count(self) -> int:
        """Count the messages that were answered 200."""
        return sum(map(len, self._accepted.values()))

    def accepted_ids(self) -> Iterable[tuple[str, str]]:
        """Give (device, message) of every message answered 200, each device's in order."""
        for device, ids in self._accepted.items():
            for message in ids:
                yield device, message

    def verdict(self) -> Verdict:
        """Judge everything noted so far."""
        lost: list[Fault] = []
        doubled: list[Fault] = []
        out_of_order: list[Fault] = []
        unknown: list[Fault] = []
        unacked: list[Fault] = []
        for device in sorted(self._accepted.keys() | self._handled.keys()):
            accepted = self._accepted.get(device, [])
            position = {message: index for index, message in enumerate(accepted)}
            seen: set[str] = set()
            furthest = -1
            for message in self._handled.get(device, []):
                fault = Fault(device, message)
                index = position.get(message)
                if message in seen:
                    doubled.append(fault)
                elif index is None:
                    unknown.append(fault)
                elif index < furthest:
                    out_of_order.append(fault)
                furthest = max(furthest, -1 if index is None else index)
                seen.add(message)
            lost += [Fault(device, message) for message in accepted if message not in seen]
            if self._acked is not None:
                acked = self._acked.get(device, set())
                unacked += [
                    Fault(device, message)
                    for message in accepted
                    if message in seen and message not in acked
                ]
        return Verdict(
            accepted=self.accepted_count(),
            handled=sum(map(len, self._handled.values())),
            lost=tuple(lost),
            doubled=tuple(doubled),
            out_of_order=tuple(out_of_order),
            unknown=tuple(unknown),
            unacked=tuple(unacked),
        )
