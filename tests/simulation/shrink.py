"""Makes a failure short: the same seed with fewer faults, and for less time."""

from typing import Final

from tests.simulation.context import Parts
from tests.simulation.faults import NAMES, WHOLE, Cut
from tests.simulation.play import SimulationError, play

_TIMES_S: Final = (3.0, 6.0, 12.0, 20.0)


def play_or_shrink(seed: int, parts: Parts | None = None) -> None:
    """Run one seed; where it fails, find a shorter run that fails, too.

    Raises:
        SimulationError: of the shortest run that was found.
    """
    try:
        play(seed, parts)
    except SimulationError as error:
        raise _shortest(seed, parts, error) from None


def _shortest(seed: int, parts: Parts | None, error: SimulationError) -> SimulationError:
    cut = WHOLE
    for seconds in _TIMES_S:
        if (found := _failure(seed, parts, Cut(seconds))) is not None:
            cut, error = Cut(seconds), found
            break
    for name in NAMES:
        tried = Cut(cut.seconds, cut.without | {name})
        if (found := _failure(seed, parts, tried)) is not None:
            cut, error = tried, found
    return error


def _failure(seed: int, parts: Parts | None, cut: Cut) -> SimulationError | None:
    try:
        play(seed, parts, cut)
    except SimulationError as error:
        return error
    return None
