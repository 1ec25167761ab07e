"""Whether memory and descriptors of the gateway's processes grow, from the points of a run. Pure.

The slope is that of Theil and Sen: the median of the slopes between all pairs of samples. A
process that rewrites its log, or one look at a bad moment, does not move it.
"""

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from loadtest.run.result import Life, Point
from loadtest.run.spec import Bounds

LEAST_S: Final = 240.0
"""A life that is shorter has no trend: what a process allocates at first is no leak."""
_JUDGED: Final = 1 / 3
"""Share of a life, its last, that is looked at: caches and buffers fill in what comes before."""
_SAMPLES: Final = 60
"""So many of a life are compared with each other at the most: pairs grow with the square."""
_HOUR_S: Final = 3600.0
_SHARD: Final = "shard"
_STORE: Final = "store"

Curve = list[tuple[float, float]]
"""(seconds, value)."""


class Trend(msgspec.Struct, frozen=True):
    """What the processes of a role did while messages were sent, over the last third of each life.

    None where no process lived long enough to tell.
    """

    memory_kib_h: float | None
    """KiB an hour and process (PSS)."""
    descriptors_h: float | None
    """Descriptors an hour, of all together, less the connections of devices."""


def trends(
    points: Sequence[Point], lives: Sequence[Life], first_s: float, last_s: float
) -> dict[str, Trend]:
    """Give the trend of each role between two moments of a run."""
    within = [number for number, point in enumerate(points) if first_s <= point.t <= last_s]
    if not within:
        return {}
    span = range(within[0], within[-1] + 1)
    roles = dict.fromkeys(role_of(life.name) for life in lives)
    return {
        role: Trend(
            slope_h(_last_part(curve) for curve in _memory(points, lives, role, span)),
            slope_h(_last_part(curve) for curve in _descriptors(points, lives, role, span)),
        )
        for role in roles
    }


def slope_h(curves: Iterable[Curve]) -> float | None:
    """Give the growth an hour that is common to some curves; None where all are too short."""
    slopes = [
        (other - one) / (after - before) * _HOUR_S
        for curve in curves
        for (before, one), (after, other) in itertools.combinations(_thinned(curve), 2)
    ]
    return round(statistics.median(slopes), 1) if slopes else None


def role_of(name: str) -> str:
    """Give the role of a process: `shard` of `shard-3`."""
    return name.partition("-")[0]


def _memory(
    points: Sequence[Point], lives: Sequence[Life], role: str, span: range
) -> Iterator[Curve]:
    """Give the memory of each life of a role."""
    for name in {life.name for life in lives if role_of(life.name) == role}:
        firsts = [life.first for life in lives if life.name == name]
        for first, end in itertools.pairwise([*firsts, span.stop]):
            yield [
                (points[number].t, points[number].pss[name] * 1024)
                for number in range(max(first, span.start), min(end, span.stop))
                if name in points[number].pss
            ]


def _descriptors(
    points: Sequence[Point], lives: Sequence[Life], role: str, span: range
) -> Iterator[Curve]:
    """Give the descriptors of a role for each time in which its processes stayed the same.

    Together, because connections go from one that dies to the others.
    """
    names = {life.name for life in lives if role_of(life.name) == role}
    changes = {life.first for life in lives if life.name in names and life.first > span.start}
    for first, end in itertools.pairwise([span.start, *sorted(changes), span.stop]):
        yield [
            (point.t, sum(point.descriptors[name] for name in names) - _connected(role, point))
            for point in points[first : min(end, span.stop)]
            if names <= point.descriptors.keys()
        ]


def _connected(role: str, point: Point) -> int:
    return point.connected if role == _SHARD else 0


def _last_part(curve: Curve) -> Curve:
    if not curve or curve[-1][0] - curve[0][0] < LEAST_S:
        return []
    since_s = curve[-1][0] - _JUDGED * (curve[-1][0] - curve[0][0])
    return [one for one in curve if one[0] >= since_s]


def _thinned(curve: Curve) -> Curve:
    return curve[:: -(-len(curve) // _SAMPLES) or 1]


class Exceeded(msgspec.Struct):
    """What bounds on trends say of a run."""

    failed: list[str] = []
    untold: str = ""
    """Why some bounds say nothing."""


def exceeded(found: Mapping[str, Trend], bounds: Bounds) -> Exceeded:
    """Compare trends with the bounds of a scenario."""
    said = Exceeded()
    young: list[str] = []
    for role, trend in found.items():
        memory = bounds.store_slope_kib_h if role == _STORE else bounds.memory_slope_kib_h
        checks = (
            ("memory", "KiB", trend.memory_kib_h, memory),
            ("descriptors", "descriptors", trend.descriptors_h, bounds.descriptor_slope_h),
        )
        for name, unit, value, bound in checks:
            if not bound:
                continue
            if value is None:
                young.append(f"{name} of the {role}")
            elif value > bound:
                said.failed.append(
                    f"{name} of the {role}: {value:g} {unit} more an hour; the bound is {bound:g}"
                )
    if young:
        said.untold = f"no process lived for {LEAST_S:.0f} s, for a slope of: {', '.join(young)}"
    return said
