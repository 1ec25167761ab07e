"""Observations made together count as those made one by one."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from router.telemetry.bulk import observe_all

BUCKETS = (0.1, 0.5, 1.0, 10.0)
values = st.one_of(st.sampled_from([0.0, *BUCKETS, 11.0]), st.floats(0, 20))


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(values, max_size=20))
def test_all_together_are_what_each_by_itself_is(observed: list[float]) -> None:
    one_by_one, together = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("seconds", "…", registry=one_by_one, buckets=BUCKETS)
    for value in observed:
        histogram.observe(value)
    observe_all(Histogram("seconds", "…", registry=together, buckets=BUCKETS), observed)
    expected, found = samples(one_by_one), samples(together)
    assert found.keys() == expected.keys()
    assert all(abs(found[name] - expected[name]) < 1e-9 for name in expected)
