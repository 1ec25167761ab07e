"""A simulation that finds nothing may be blind: each planted defect must be found."""

import pytest

from tests.simulation.canaries import CANARIES
from tests.simulation.context import Parts
from tests.simulation.play import BrokenPromiseError, play
from tests.simulation.test_simulation import SEEDS


@pytest.mark.slow
@pytest.mark.parametrize("canary", CANARIES, ids=lambda parts: parts.name)
def test_a_planted_defect_is_found(canary: Parts) -> None:
    for seed in range(SEEDS):
        try:
            play(seed, canary)
        except BrokenPromiseError:
            return
    pytest.fail(f"{canary.name} got past {SEEDS} seeds")
