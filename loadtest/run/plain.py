"""A run in plain lines: for logs, pipes and continuous integration."""

import sys
import time
from typing import Final

from loadtest.run.tally import Tally

EVERY_S: Final = 5.0


class PlainScreen:
    """Writes a line now and then.

    Args:
        every_s: at least so many seconds between two lines of figures.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._begun = time.monotonic()
        self._shown = self._begun - every_s

    def phase(self, name: str) -> None:
        """The run is at this now."""
        self.say(name)

    def show(self, tally: Tally) -> None:
        """Write the last period's figures, if it is time."""
        now = time.monotonic()
        if now - self._shown < self._every_s or not tally.points:
            return
        self._shown = now
        point, period_s = tally.points[-1], tally.period_s
        cpu = " ".join(f"{name} {value:.0f}%" for name, value in point.cpu.items())
        self.say(
            f"connected {point.connected}, accepted {point.accepted / period_s:.0f}/s, "
            f"delivered {point.delivered / period_s:.0f}/s, "
            f"p50 {point.p50:.1f} ms, p99 {point.p99:.1f} ms, errors {tally.failed}, "
            f"waiting {max(0, tally.expected - tally.delivered)}" + (f", CPU {cpu}" if cpu else "")
        )

    def say(self, text: str) -> None:
        """Write a line."""
        sys.stderr.write(f"{time.monotonic() - self._begun:7.1f} s  {text}\n")
        sys.stderr.flush()
