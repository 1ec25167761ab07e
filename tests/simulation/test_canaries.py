"""A simulation that finds nothing may be blind: each planted defect must be found."""

import pytest

from tests.simulation.canaries import CANARIES, FIRST_SEED, FUNCTIONS, with_function
from tests.simulation.context import Parts
from tests.simulation.play import BrokenPromiseError, play

pytestmark = pytest.mark.timeout(900)  # so many runs, on whatever machine

SEEDS = 300
"""The most that one may take."""


@pytest.mark.slow
@pytest.mark.parametrize("canary", CANARIES, ids=lambda parts: parts.name)
def test_a_planted_defect_is_found(canary: Parts) -> None:
    _find(canary)


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_defect_in_a_function_of_the_store_is_found(function: str) -> None:
    _find(with_function(function))


def _find(canary: Parts) -> None:
    first = FIRST_SEED.get(canary.name, 0)
    for seed in range(first, first + SEEDS):
        try:
            play(seed, canary)
        except BrokenPromiseError:
            return
    pytest.fail(f"{canary.name} got past {SEEDS} seeds")
