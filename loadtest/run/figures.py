"""Figures that make runs comparable: quotients, sums and slopes. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from loadtest.run.result import Point
from loadtest.run.spec import Spec
from loadtest.run.tally import Tally
from loadtest.run.trends import Trend, role_of

_MICRO: Final = 1e6


class Costs(msgspec.Struct, frozen=True):
    """What a run took, as far as it could be seen."""

    cpu_s: Mapping[str, float]
    """Of each process of the gateway while messages were sent."""
    generating_s: float
    """CPU seconds of the load generator meanwhile."""
    grown_kib: Mapping[str, float]
    """Memory for each connection by the name of a figure."""
    trends: Mapping[str, Trend]


def figures(
    tally: Tally, spec: Spec, phases: Mapping[str, float], costs: Costs
) -> dict[str, float]:
    """Give them by name and unit; only what could be measured."""
    found = (
        *_rates(tally, spec, phases),
        *_cpu(tally, phases, costs),
        *_memory(tally, costs),
    )
    return {name: round(value, 2) for name, value in found}


def _rates(tally: Tally, spec: Spec, phases: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    sending_s = phases.get("sending", 0.0)
    if tally.accepted and sending_s:
        yield "messages a second", tally.accepted / sending_s
        yield "deliveries a second", tally.delivered / sending_s
    if connecting_s := phases.get("connecting", 0.0):
        yield "connects a second", spec.devices / connecting_s


def _cpu(tally: Tally, phases: Mapping[str, float], costs: Costs) -> Iterator[tuple[str, float]]:
    if not tally.delivered:
        if at_rest_s := phases.get("sending", 0.0):
            for role, cpu_s in sorted(_by_role(costs.cpu_s).items()):
                yield f"CPU of the {role} at rest, % of a core", 100 * cpu_s / at_rest_s
            yield "CPU of the simulators, % of a core", 100 * costs.generating_s / at_rest_s
        return
    each = _MICRO / tally.delivered
    yield "CPU per delivery of the load generator, µs", costs.generating_s * each
    if costs.cpu_s:
        yield "CPU per delivery, µs", sum(costs.cpu_s.values()) * each
        for role, cpu_s in sorted(_by_role(costs.cpu_s).items()):
            yield f"CPU per delivery in the {role}, µs", cpu_s * each


def _memory(tally: Tally, costs: Costs) -> Iterator[tuple[str, float]]:
    yield from costs.grown_kib.items()
    last = next((point for point in reversed(tally.points) if point.pss), None)
    if last is not None:
        for role, mib in sorted(_by_role(last.pss).items()):
            yield f"memory of the {role} in the end, MiB", mib
        most: dict[str, float] = {}
        for point in tally.points:
            for role, number in _by_role(point.descriptors).items():
                most[role] = max(most.get(role, 0), number)
        for role, number in sorted(most.items()):
            yield f"descriptors of the {role} at most", number
        if (spread := spread_of(last)) is not None:
            yield "connections of the fullest shard by those of the mean", spread
    for role, trend in sorted(costs.trends.items()):
        if trend.memory_kib_h is not None:
            yield f"memory slope of the {role}, KiB an hour and process", trend.memory_kib_h
        if trend.descriptors_h is not None:
            yield f"descriptor slope of the {role}, an hour", trend.descriptors_h


def spread_of(point: Point) -> float | None:
    """Give by how much the fullest shard is above the mean; None where there is only one.

    A shard holds a descriptor for each connection, and about as many others as the next one.
    """
    held = [number for name, number in point.descriptors.items() if role_of(name) == "shard"]
    if len(held) <= 1 or not point.connected:
        return None
    others = (sum(held) - point.connected) / len(held)
    return (max(held) - others) * len(held) / point.connected


def _by_role(values: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        found[role_of(name)] = found.get(role_of(name), 0.0) + value
    return found
