"""The metrics of bridges, by name."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60)
_AGES: Final = (0.05, 0.25, 1, 5, 15, 60, 300, 3600, 21_600, 86_400)


class BridgeMetrics:
    """What is counted of bridges.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bridge_pushes = Counter(
            "pushwire_bridge_pushes",
            "Attempts to push through a bridge, by what came of them.",
            ["bridge", "outcome"],
            registry=registry,
        )
        self.bridge_seconds = Histogram(
            "pushwire_bridge_seconds",
            "From a push's request to its answer.",
            ["bridge"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.bridge_age = Histogram(
            "pushwire_bridge_age_seconds",
            "From the acceptance of a message until a provider took it.",
            ["bridge"],
            buckets=_AGES,
            registry=registry,
        )
        self.bridge_suspensions = Counter(
            "pushwire_bridge_suspensions",
            "Times that a project's bridge was suspended: its credentials were refused.",
            ["bridge"],
            registry=registry,
        )
        self.bridge_authorizations = Counter(
            "pushwire_bridge_authorizations",
            "Tokens made or granted for a bridge, by result.",
            ["bridge", "result"],
            registry=registry,
        )
        self.bridge_addresses_dropped = Counter(
            "pushwire_bridge_addresses_dropped",
            "Addresses of devices that a provider called dead or wrong.",
            ["bridge"],
            registry=registry,
        )
        self.bridge_dead = Counter(
            "pushwire_bridge_dead",
            "Pushes that became dead letters, by reason: exhausted, rejected, expired.",
            ["bridge", "reason"],
            registry=registry,
        )
        self._make_gauges(registry)

    def _make_gauges(self, registry: CollectorRegistry) -> None:
        self.bridge_under_way = Gauge(
            "pushwire_bridge_under_way",
            "Pushes of a bridge that wait for an answer.",
            ["bridge"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.bridge_queues = Gauge(
            "pushwire_bridge_queues",
            "Queues of bridges that hold pushes, of partitions and projects.",
            ["bridge"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.bridge_oldest = Gauge(
            "pushwire_bridge_oldest_seconds",
            "Age of the most urgent push that waits in a queue of a bridge.",
            ["bridge"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.bridge_breakers = Gauge(
            "pushwire_bridge_breakers_open",
            "Audiences of a bridge to which nothing goes for a while, as their provider fails.",
            ["bridge"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.bridge_connections = Gauge(
            "pushwire_bridge_connections",
            "HTTP/2 connections to providers.",
            registry=registry,
            multiprocess_mode="livesum",
        )
