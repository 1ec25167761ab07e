"""What goes wrong in a run, and how often: drawn from its seed.

Each run has some of the faults only, and those more or less often: a world in which everything
fails all the time finds less than one in which two or three faults meet.
"""

from dataclasses import dataclass, field, fields
from random import Random
from typing import Final

from typing_extensions import override

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
    store_cuts: float = 0.0
    """The connection of a process is lost, before its commands arrive or behind them."""
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
    rotations: float = 0.0
    deaths_of_apis: float = 0.0
    deaths_of_workers: float = 0.0
    stops_of_workers: float = 0.0
    """They give their leases up before they end."""
    pauses: float = 0.0
    """A process stands still, and goes on as if nothing had been."""
    outages_of_store: float = 0.0
    """It crashes, and comes back with all that it had."""
    failovers: float = 0.0
    """It is lost, and a replica takes over with what it has."""
    full_store: float = 0.0
    """Its memory is at the limit for a while."""
    clock_steps: float = 0.0
    """The wall clock of a process, or of the store, is set."""

    def calm(self) -> None:
        """End all faults; what is on its way arrives soon."""
        for one in fields(self):
            setattr(self, one.name, one.default)


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
    "rotations",
    "deaths_of_apis",
    "deaths_of_workers",
    "stops_of_workers",
    "pauses",
    "outages_of_store",
    "failovers",
    "full_store",
    "clock_steps",
)


def draw(rng: Random) -> Faults:
    """Choose the faults of a run."""
    return Faults(
        net_delay_s=rng.choice([0.02, 0.1, 0.6]),
        store_delay_s=rng.choice([0.002, 0.02, 0.02, 0.3]),
        inbox_delay_s=rng.choice([0.01, 0.05, 3.0]),
        connect_fails=_some(rng, 0.4),
        hint_lost=_some(rng, 0.5),
        store_cuts=_some(rng, 0.03),
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
        rotations=_some(rng, 0.1),
        bridge_fails=_some(rng, 0.6),
        push_lost=_some(rng, 0.5),
        deaths_of_apis=_some(rng, 0.15),
        deaths_of_workers=_some(rng, 0.2),
        stops_of_workers=_some(rng, 0.1),
        pauses=_some(rng, 0.4),
        outages_of_store=_some(rng, 0.06),
        failovers=_some(rng, 0.08),
        full_store=_some(rng, 0.06),
        clock_steps=_some(rng, 0.2),
    )


def _some(rng: Random, most: float) -> float:
    return 0.0 if rng.random() < _OFF else rng.uniform(0.1, 1.0) * most


@dataclass(frozen=True, slots=True)
class Cut:
    """A shorter run of a seed: trouble for less time, and without some of its faults."""

    seconds: float = 30.0
    without: frozenset[str] = field(default_factory=frozenset)

    def apply(self, drawn: Faults) -> Faults:
        """Leave faults out."""
        for one in fields(drawn):
            if one.name in self.without:
                setattr(drawn, one.name, one.default)
        return drawn

    @override
    def __str__(self) -> str:
        return f"{self.seconds:g}:{','.join(sorted(self.without))}"

    @classmethod
    def read(cls, text: str) -> "Cut":
        """Read what `str` wrote."""
        seconds, _, names = text.partition(":")
        return cls(float(seconds), frozenset(names.split(",")) - {""})


WHOLE: Final = Cut()
NAMES: Final = tuple(one.name for one in fields(Faults))
