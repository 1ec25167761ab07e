"""The metrics of limits, by name."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class LimitMetrics:
    """What is counted of limits.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.limit_refusals = Counter(
            "pushwire_limit_refusals",
            "What a limit by rate refused, by limit.",
            ["limit"],
            registry=registry,
        )
        self.limit_tokens = Counter(
            "pushwire_limit_tokens",
            "Tokens taken from the buckets of projects, keys and addresses, by limit.",
            ["limit"],
            registry=registry,
        )
        self.limit_addresses = Gauge(
            "pushwire_limit_addresses",
            "Client addresses whose rates are remembered, by role.",
            ["role"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.api_queue = Gauge(
            "pushwire_api_queue_seconds",
            "How long requests took of late, on average, in the API process that takes longest.",
            registry=registry,
            multiprocess_mode="livemax",
        )
