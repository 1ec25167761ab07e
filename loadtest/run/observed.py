"""What the devices of a process observe: counts and latencies for ticks, sights for the account."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from loadtest.run.account import Fault, Reckoning, Sent, Sight, Sights, reckon
from loadtest.run.histogram import Histogram
from loadtest.run.protocol import DeviceTick

STREAM: Final = "s"
NUMBER: Final = "n"
DUE: Final = "due"
"""Keys of a message's data: its stream, its number there, when it was due (monotonic, ns)."""


class Observed:
    """Collects what happens to devices.

    Args:
        handler: whether it is told of what an app's handler gets, which must not get repeats;
            otherwise of what comes over the wire, where repeats are part of the protocol.
    """

    def __init__(self, *, handler: bool = False) -> None:
        self._handler = handler
        self._sights: dict[tuple[int, str], Sights] = {}
        self._late: list[Fault] = []
        self._doubled: list[Fault] = []
        self._strange: list[Fault] = []
        self._delivery = Histogram()
        self._resumed = Histogram()
        self._handshake = Histogram()
        self._tick = DeviceTick()
        self._ends: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self.last_end = "none was tried"
        """Why the last connection ended, or did not come about."""
        self.quiet = False
        """Whether connections and their ends are not counted: the run itself looks at mailboxes."""

    def message(
        self, device: int, message: str, data: Mapping[str, object] | None, wanted_ns: int
    ) -> None:
        """Take a message that a device got.

        Args:
            device: its number in the run.
            message: the id.
            data: what it holds.
            wanted_ns: since when the device has wanted to be connected. What was due before, while
                it was away of its own accord, counts from then, and apart from the others.
        """
        now_ns = time.monotonic_ns()
        try:
            values = data or {}
            stream = str(values[STREAM])
            number, due_ns = int(str(values[NUMBER])), int(str(values[DUE]))
        except (KeyError, ValueError):
            self._strange.append(Fault(device, "none", 0, message))
            return
        sights = self._sights.get((device, stream))
        if sights is None:
            sights = self._sights[device, stream] = Sights()
        sight = sights.see(number, message)
        if sight is Sight.REPEAT and self._handler:
            sight = Sight.DOUBLE
        if sight is Sight.FIRST or sight is Sight.LATE:
            self._tick.delivered += 1
            if due_ns < wanted_ns:
                self._resumed.note(wanted_ns, now_ns)
            else:
                self._delivery.note(due_ns, now_ns)
            if sight is Sight.LATE:
                self._late.append(Fault(device, stream, number, message))
        elif sight is Sight.DOUBLE:
            self._doubled.append(Fault(device, stream, number, message))
        else:
            self._tick.repeats += 1

    def welcomed(self, due_ns: int) -> None:
        """Take it that a device is connected that should be since `due_ns`."""
        if self.quiet:
            return
        self._tick.connects += 1
        self._handshake.note(due_ns, time.monotonic_ns())

    def ended(self, reason: str) -> None:
        """Take it that a session ended."""
        self.last_end = reason
        if not self.quiet:
            self._ends[reason] += 1

    def refused(self, reason: str) -> None:
        """Take it that a connection did not come to a welcome."""
        self.last_end = reason
        if not self.quiet:
            self._refused[reason] += 1

    def dropped(self, count: int) -> None:
        """Take it that a device was told of messages that it will not get."""
        self._tick.dropped += count

    def not_all(self, connected: int, wanted: int, seconds: float) -> TimeoutError:
        """Say that not all devices connected in time, and why the last one did not."""
        return TimeoutError(
            f"{connected} of {wanted} devices connected in {seconds:.0f} s ({self.last_end})"
        )

    def active(self) -> set[int]:
        """Give the devices that got anything."""
        return {device for device, _ in self._sights}

    def tick(self, connected: int) -> DeviceTick:
        """Give what happened since the last tick."""
        tick, self._tick = self._tick, DeviceTick()
        tick.connected = connected
        tick.ends, tick.refused = dict(self._ends), dict(self._refused)
        tick.delivery, tick.resumed = self._delivery.take(), self._resumed.take()
        tick.handshake = self._handshake.take()
        self._ends.clear()
        self._refused.clear()
        return tick

    def reckon(
        self,
        devices: Iterable[int],
        streams_of: Callable[[int], list[str]],
        sent: Mapping[str, Sent],
    ) -> Reckoning:
        """Compare what all devices saw with what was sent."""
        audience = [(device, stream) for device in devices for stream in streams_of(device)]
        found = reckon(self._sights, audience, sent)
        found.late, found.doubled = self._late, self._doubled
        found.strange += self._strange
        return found
