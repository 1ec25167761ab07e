"""What goes wrong in a run, and how often: drawn from its seed.

Each run has some of the faults only, and those more or less often: a world in which everything
fails all the time finds less than one in which two or three faults meet.
"""

from dataclasses import dataclass, fields
from random import Random
from typing import Final

_OFF: Final = 0.45
"""How likely a run is to be without any one fault."""


@dataclass(slots=True)
class Faults:
    """Probabilities for each single step, and mean rates for what comes from outside."""

    # The most that one way takes, seconds.
    net_delay_s: float = 0.03
    store_delay_s: float = 0.01
    inbox_delay_s: float = 0.02

    # Of each step.
    connect_fails: float = 0.0
    hint_lost: float = 0.0
    store_refuses: float = 0.0
    """The command is not sent."""
    store_silent: float = 0.0
    """The command is carried out or not; its answer never comes."""
    store_repeats: float = 0.0
    """The connection is lost behind the command, which is sent again."""
    handler_nacks: float = 0.0
    handler_stuck: float = 0.0
    bridge_fails: float = 0.0
    """The provider does not take it: now, or at all."""
    push_lost: float = 0.0

    # Each second, in the whole world.
    cuts: float = 0.0
    half_cuts: float = 0.0
    """One end alone learns of it."""
    flaps: float = 0.0
    """A device loses several sockets in a row, and the shards learn of none."""
    slow_devices: float = 0.0
    restarts: float = 0.0
    losses_of_state: float = 0.0
    second_connections: float = 0.0
    deaths_of_shards: float = 0.0
    drains: float = 0.0
    stalls_of_store: float = 0.0
    stalls_of_shards: float = 0.0
    """The store is slow for one shard."""
    pauses_of_worker: float = 0.0
    rotations: float = 0.0
    deaths_of_bridges: float = 0.0

    def calm(self) -> None:
        """End all faults; what is on its way arrives soon."""
        for field in fields(self):
            setattr(self, field.name, field.default)


RATES: Final = (
    "cuts",
    "half_cuts",
    "flaps",
    "slow_devices",
    "restarts",
    "losses_of_state",
    "second_connections",
    "deaths_of_shards",
    "drains",
    "stalls_of_store",
    "stalls_of_shards",
    "pauses_of_worker",
    "rotations",
    "deaths_of_bridges",
)


def draw(rng: Random) -> Faults:
    """Choose the faults of a run."""
    return Faults(
        net_delay_s=rng.choice([0.02, 0.1, 0.6]),
        store_delay_s=rng.choice([0.002, 0.02, 0.02, 0.3]),
        inbox_delay_s=rng.choice([0.01, 0.05, 3.0]),
        connect_fails=_some(rng, 0.4),
        hint_lost=_some(rng, 0.5),
        store_refuses=_some(rng, 0.1),
        store_silent=_some(rng, 0.1),
        store_repeats=_some(rng, 0.1),
        handler_nacks=_some(rng, 0.2),
        handler_stuck=_some(rng, 0.1),
        cuts=_some(rng, 0.6),
        half_cuts=_some(rng, 0.4),
        flaps=_some(rng, 0.2),
        slow_devices=_some(rng, 0.4),
        restarts=_some(rng, 0.3),
        losses_of_state=_some(rng, 0.1),
        second_connections=_some(rng, 0.1),
        deaths_of_shards=_some(rng, 0.15),
        drains=_some(rng, 0.15),
        stalls_of_store=_some(rng, 0.1),
        stalls_of_shards=_some(rng, 0.3),
        pauses_of_worker=_some(rng, 0.2),
        rotations=_some(rng, 0.1),
        bridge_fails=_some(rng, 0.6),
        push_lost=_some(rng, 0.5),
        deaths_of_bridges=_some(rng, 0.3),
    )


def _some(rng: Random, most: float) -> float:
    return 0.0 if rng.random() < _OFF else rng.uniform(0.1, 1.0) * most
