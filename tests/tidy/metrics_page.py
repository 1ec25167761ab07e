"""docs/metrics.md, made from the code: `python -m tests.tidy.metrics_page` writes it anew."""

from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from router.telemetry.metrics import Metrics
from tests.tidy.tree import ROOT

PAGE: Final = ROOT / "docs" / "metrics.md"

_HEAD: Final = """\
# Metrics

Every metric, as `/metrics` on the ops port gives it to Prometheus. Counters end in `_total`,
histograms in `_bucket`, `_sum` and `_count`. Values of all processes of one `pushwire serve` are
added up. Labels take few values: never a token, a topic or a device. Which of them to watch, and
what to do then, stands in [operations.md](operations.md).

This page is made from `router/telemetry/metrics.py`; a test compares the two.

| metric | type | labels | what it tells | buckets |
| --- | --- | --- | --- | --- |
"""


def metrics() -> list[MetricWrapperBase]:
    """Every metric, by name."""
    made = Metrics(CollectorRegistry())
    found = [value for value in vars(made).values() if isinstance(value, MetricWrapperBase)]
    return sorted(found, key=lambda metric: metric._name)


def page() -> str:
    """The page as it has to be."""
    return _HEAD + "".join(map(_row, metrics()))


def _row(metric: MetricWrapperBase) -> str:
    suffix = "_total" if metric._type == "counter" else ""
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    bounds = [f"{bound:g}" for bound in metric._kwargs.get("buckets", ())]
    buckets = ", ".join(bound for bound in bounds if bound != "inf")
    cells = (
        f"`{metric._name}{suffix}`",
        str(metric._type),
        labels,
        str(metric._documentation),
        buckets,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    Path(PAGE).write_text(page())
