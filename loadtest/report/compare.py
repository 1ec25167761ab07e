"""Two runs side by side."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loadtest.run.result import Result


class Row(NamedTuple):
    """One figure of both runs; None where a run does not have it."""

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> str:
        """The change in percent; empty where there is none to give."""
        if self.before is None or self.after is None or not self.before:
            return ""
        return f"{100 * (self.after / self.before - 1):+.1f} %"


def rows(before: Result, after: Result) -> Iterator[Row]:
    """Give every figure that one of two runs has."""
    for name in _both(before.latencies, after.latencies):
        one, other = before.latencies.get(name), after.latencies.get(name)
        for key in _both(one.quantiles if one else {}, other.quantiles if other else {}):
            yield Row(
                f"{name} {key}, ms",
                one.quantiles.get(key) if one else None,
                other.quantiles.get(key) if other else None,
            )
        yield Row(f"{name} max, ms", one.max if one else None, other.max if other else None)
    for name in _both(before.figures, after.figures):
        yield Row(name, before.figures.get(name), after.figures.get(name))
    for name, attribute in (("accepted", "accepted"), ("wire repeats", "repeats")):
        yield Row(name, getattr(before.verdict, attribute), getattr(after.verdict, attribute))
    yield Row("errors", sum(before.errors.values()), sum(after.errors.values()))


def compare(before: Result, after: Result) -> str:
    """Write a table of both, and what else is different."""
    found = list(rows(before, after))
    width = max(len(row.name) for row in found)
    lines = [f"{'':<{width}}  {'A':>12}  {'B':>12}  {'change':>9}"]
    lines += [
        f"{row.name:<{width}}  {_number(row.before):>12}  {_number(row.after):>12}  {row.change:>9}"
        for row in found
    ]
    lines.append(f"verdict: A {_verdict(before)}, B {_verdict(after)}")
    lines += differences(before, after)
    return "\n".join(lines)


def differences(before: Result, after: Result) -> list[str]:
    """Say in what the runs differ besides, which makes their figures hard to compare."""
    pairs = [
        ("scenario", before.scenario, after.scenario),
        ("machine", before.machine, after.machine),
    ]
    pairs += [
        (name, before.versions.get(name, "none"), after.versions.get(name, "none"))
        for name in _both(before.versions, after.versions)
    ]
    pairs += [
        (field, str(getattr(before.spec, field)), str(getattr(after.spec, field)))
        for field in before.spec.__struct_fields__
        if field != "about"
    ]
    return [f"differs: {name}: A {one}, B {other}" for name, one, other in pairs if one != other]


def _both(one: Iterable[str], other: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*one, *other]))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}".rstrip("0").rstrip(".")


def _verdict(result: Result) -> str:
    return "kept" if result.kept else "BROKEN"
