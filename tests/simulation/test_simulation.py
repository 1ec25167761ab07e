"""Every promise of delivery holds, whatever goes wrong: some dozen seeds of a world of faults.

`PUSHWIRE_SIM_SEED=<n>` plays one seed alone, `PUSHWIRE_SIM_CUT=<…>` a shorter run of it.
docs/testing.md tells how a run is made.
"""

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.canaries import with_function
from tests.simulation.faults import RATES, WHOLE, Cut
from tests.simulation.play import SimulationError, play
from tests.simulation.shrink import play_or_shrink

pytestmark = pytest.mark.timeout(900)  # so many runs, on whatever machine

SEEDS: Final = 24
CHUNK: Final = 6
SOAK: Final = 5_000
SOAK_CHUNK: Final = 250
ROOT: Final = Path(__file__).parents[2]
_CHOSEN: Final = os.environ.get("PUSHWIRE_SIM_SEED")
_CUT: Final = os.environ.get("PUSHWIRE_SIM_CUT", "")
CHUNKS: Final = (
    [range(int(_CHOSEN), int(_CHOSEN) + 1)]
    if _CHOSEN
    else [range(first, first + CHUNK) for first in range(0, SEEDS, CHUNK)]
)

REACHED: Final = {
    # Events of messages.
    *("accepted", "scheduled", "sent", "delivered", "displayed", "nacked", "upstream"),
    *("expired", "collapsed", "dropped", "cancelled", "bridged", "failed"),
    # How connections begin and end.
    *("connects ok", "connects store_away", "connects overtaken"),
    *("disconnects lost", "disconnects client_close", "disconnects shutdown"),
    *("disconnects displaced", "disconnects slow_consumer", "disconnects try_again_later"),
    # What the stages do where the store fails them.
    *("hints_dropped gone", "hints_dropped store", "withdrawals done"),
    # What becomes of processes and of the store.
    *("shard.draining", "shard.lease_lost", "partition.lost", "cast.left_to_worker"),
    *("store.disconnected", "inbox.disconnected"),
    *("timers issue", "timers spread"),
    *RATES,
}
"""What the simulation is for: a run that meets none of it would prove nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_promise_holds(seeds: range) -> None:
    for seed in seeds:
        if _CUT:
            play(seed, cut=Cut.read(_CUT))
        else:
            play_or_shrink(seed)


@pytest.mark.soak
@pytest.mark.timeout(0)  # so many runs, however long they take
@pytest.mark.skipif(bool(_CHOSEN), reason="one seed was asked for")
@pytest.mark.parametrize("chunk", range(SOAK // SOAK_CHUNK))
def test_every_promise_holds_for_seeds_that_nobody_chose(chunk: int) -> None:
    first = secrets.randbelow(2**40)
    for seed in range(first, first + SOAK_CHUNK):
        play_or_shrink(seed)


@pytest.mark.slow
def test_the_seeds_reach_what_they_are_for() -> None:
    missing = set(REACHED)
    for seed in range(SEEDS):
        missing -= play(seed).reached
        if not missing:
            break
    assert not missing


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
def test_a_seed_is_the_same_run_in_every_process() -> None:
    assert {_digest(hash_seed) for hash_seed in ("1", "2")} == {play(3).digest}


def _digest(hash_seed: str) -> int:
    code = "from tests.simulation.play import play; print(play(3).digest)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    return int(answer.stdout)


@pytest.mark.slow
def test_a_failure_is_told_by_its_shortest_run() -> None:
    broken = with_function("holds too much")
    with pytest.raises(SimulationError) as short:
        play_or_shrink(0, broken)
    told = str(short.value)
    cut = Cut.read(told.partition("PUSHWIRE_SIM_CUT=")[2].partition(" ")[0])
    assert cut.seconds < WHOLE.seconds
    assert cut.without
    with pytest.raises(SimulationError) as again:
        play(0, broken, cut)
    assert str(again.value) == told
