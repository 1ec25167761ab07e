"""What the processes report, made into curves and sums. No clock of its own: `t` is an argument."""

from collections import Counter
from typing import Final

from loadtest.run.histogram import Histogram
from loadtest.run.protocol import DeviceTick, SenderTick
from loadtest.run.result import Latency, Life, Mark, Point
from loadtest.run.samples import Uses

_POINTS: Final = 900
"""About so many points a run has at the most."""
_HISTOGRAMS: Final = ("delivery", "resumed", "answer", "lag", "handshake", "roll call")


def period_of(duration_s: float) -> float:
    """Give the seconds of a point, for a run of so many."""
    return max(1.0, round(duration_s / _POINTS))


class Tally:
    """Sums of a run so far, and its points.

    Args:
        period_s: of a point.
    """

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.points: list[Point] = []
        self.marks: list[Mark] = []
        self.lives: list[Life] = []
        self._pids: dict[str, int] = {}
        self.due = self.accepted = self.expected = self.delivered = 0
        self.repeats = self.duplicates = self.dropped = self.connects = self.backlog = 0
        self.errors: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.histograms = {name: Histogram() for name in _HISTOGRAMS}
        self._connected: dict[int, int] = {}
        self._open = Point(0.0)
        self._recent = Histogram()
        self._shaken = Histogram()

    @property
    def connected(self) -> int:
        """How many devices are."""
        return sum(self._connected.values())

    @property
    def failed(self) -> int:
        """How many answers were not 200."""
        return sum(self.errors.values())

    def devices(self, process: int, tick: DeviceTick) -> None:
        """Take what a process of devices reports."""
        self._connected[process] = tick.connected
        self.delivered += tick.delivered
        self.repeats += tick.repeats
        self.dropped += tick.dropped
        self.connects += tick.connects
        self.ends.update(tick.ends)
        self.refused.update(tick.refused)
        self.histograms["delivery"].add(tick.delivery)
        self.histograms["resumed"].add(tick.resumed)
        self.histograms["handshake"].add(tick.handshake)
        self.histograms["roll call"].add(tick.rolled)
        self._shaken.add(tick.handshake)
        self._recent.add(tick.delivery)
        self._open.delivered += tick.delivered
        self._open.connects += tick.connects
        self._open.refused += sum(tick.refused.values())

    def senders(self, tick: SenderTick) -> None:
        """Take what the app servers report."""
        failed = sum(tick.errors.values())
        self.due += tick.due
        self.accepted += tick.accepted
        self.expected += tick.expected
        self.duplicates += tick.duplicates
        self.backlog = tick.backlog
        self.errors.update(tick.errors)
        self.histograms["answer"].add(tick.answer)
        self.histograms["lag"].add(tick.lag)
        self._open.due += tick.due
        self._open.accepted += tick.accepted
        self._open.errors += failed

    def close_point(self, t: float, uses: Uses) -> Point:
        """End a period at `t`."""
        point, self._open = self._open, Point(0.0)
        point.t, point.connected, point.backlog = t, self.connected, self.backlog
        recent = self._recent
        point.p50, point.p99, point.max = (
            recent.quantile_ms(0.5),
            recent.quantile_ms(0.99),
            recent.max_ms,
        )
        recent.clear()
        shaken = self._shaken
        point.handshake_p50, point.handshake_p99 = shaken.quantile_ms(0.5), shaken.quantile_ms(0.99)
        shaken.clear()
        point.cpu, point.memory = uses.cpu, uses.memory
        point.pss, point.descriptors = uses.pss, uses.descriptors
        for name, pid in uses.pids.items():
            if self._pids.get(name) != pid:
                self._pids[name] = pid
                self.lives.append(Life(name, pid, len(self.points)))
        self.points.append(point)
        return point

    def mark(self, t: float, text: str, *, fault: bool = False) -> None:
        """Note that something happened."""
        self.marks.append(Mark(t, text, fault))

    def latencies(self) -> dict[str, Latency]:
        """Give all latencies of which there are any."""
        return {name: Latency.of(one) for name, one in self.histograms.items() if one.count}
