"""When messages are due, and to whom: a function of the seed. Pure."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence


class Schedule:
    """Gives the next message, again and again.

    Args:
        rate: messages a second.
        poisson: whether they come independently of each other; else evenly.
        shares: of each kind of target.
        sizes: how many streams each kind has.
        seed: of all chance.
    """

    def __init__(
        self,
        rate: float,
        shares: Mapping[str, float],
        sizes: Mapping[str, int],
        *,
        poisson: bool,
        seed: int,
    ) -> None:
        self._rate = rate
        self._poisson = poisson
        self._kinds: Sequence[str] = list(shares)
        self._weights: Sequence[float] = list(shares.values())
        self._sizes = sizes
        self._chance = random.Random(f"schedule-{seed}")

    def due(self) -> Iterator[tuple[float, str, int]]:
        """Give (seconds after the start, kind of target, number of the stream), without an end."""
        at_s, chance = 0.0, self._chance
        for number in itertools.count(1):
            kind = chance.choices(self._kinds, self._weights)[0]
            yield at_s, kind, chance.randrange(self._sizes[kind])
            if self._poisson:
                at_s += chance.expovariate(self._rate)
            else:
                at_s = number / self._rate
