"""The account of every message by its id: answered 200, seen by a handler. Pure.

For runs of a bounded size; `loadtest.run.account` accounts by numbers, for any.
"""

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

    @property
    def kept(self) -> bool:
        """Whether every message was delivered once, in order, and nothing else was."""
        return not (self.lost or self.doubled or self.out_of_order or self.unknown)

    def report(self) -> str:
        """Write the verdict for a person, with the ids that failed (the first of each kind)."""
        lines = [f"{self.accepted} accepted, {self.handled} handled"]
        for name in ("lost", "doubled", "out_of_order", "unknown"):
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

    def accepted(self, device: str, message: str) -> None:
        """Note that a send to `device` was answered 200 with the id `message`."""
        self._accepted.setdefault(device, []).append(message)

    def handled(self, device: str, message: str) -> None:
        """Note that the app's handler on `device` saw `message`."""
        self._handled.setdefault(device, []).append(message)

    def verdict(self) -> Verdict:
        """Judge everything noted so far."""
        lost: list[Fault] = []
        doubled: list[Fault] = []
        out_of_order: list[Fault] = []
        unknown: list[Fault] = []
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
        return Verdict(
            accepted=sum(map(len, self._accepted.values())),
            handled=sum(map(len, self._handled.values())),
            lost=tuple(lost),
            doubled=tuple(doubled),
            out_of_order=tuple(out_of_order),
            unknown=tuple(unknown),
        )
