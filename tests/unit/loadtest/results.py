"""A result of a load test as tests need one."""

from loadtest.run.account import Verdict
from loadtest.run.histogram import Histogram
from loadtest.run.result import Latency, Mark, Point, Result
from loadtest.run.spec import parse


def result(**changes: object) -> Result:
    latencies = Histogram()
    for value in range(1, 2001):
        latencies.note(0, value * 10_000)
    fields: dict[str, object] = {
        "scenario": "steady",
        "kept": True,
        "report": "kept: 2 accepted",
        "started": "2026-11-25T10:00:00+00:00",
        "gateway": "started by the run",
        "machine": "2 x <CPU>",
        "versions": {"Python": "3.11.7"},
        "spec": parse("about = 'A & B.'"),
        "verdict": Verdict(accepted=2, expected=2, delivered=2, repeats=0, acked=True),
        "phases": {"sending": 3.0},
        "period": 1.0,
        "points": [
            Point(1.0, due=1, accepted=1, delivered=1, connected=2, p50=1.0, p99=2.0, max=2.5),
            Point(
                2.0,
                connected=2,
                errors=3,
                cpu={"shard-0": 12.0},
                memory={"shard-0": 50.0},
                pss={"shard-0": 40.0},
                descriptors={"shard-0": 30},
            ),
            Point(3.0, due=1, accepted=1, delivered=1, connected=2, p50=4.0, p99=90.0, max=900.0),
        ],
        "marks": [Mark(2.0, "shard-0 killed", fault=True), Mark(2.5, "it serves again")],
        "latencies": {"delivery": Latency.of(latencies)},
        "errors": {"503": 3},
        "ends": {},
        "refused": {},
        "cpu": {"shard-0": 0.5},
        "figures": {"CPU per delivery, µs": 100.0},
        "counters": {},
        **changes,
    }
    return Result(**fields)  # type: ignore[arg-type]
