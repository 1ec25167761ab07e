"""Many observations of a histogram at once.

`prometheus_client` takes them one by one: 4 µs each where several processes share the metrics, as
both the sum and the bucket are written to the file that holds them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from prometheus_client import Histogram


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe all values, as `histogram.observe` does each."""
    if not values:
        return
    # It has no call for many; a test compares this with its own.
    bounds, buckets = histogram._upper_bounds, histogram._buckets  # noqa: SLF001
    for bucket, count in Counter(bisect_left(bounds, value) for value in values).items():
        buckets[bucket].inc(count)
    histogram._sum.inc(sum(values))  # noqa: SLF001
