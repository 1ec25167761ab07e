"""The metrics of callbacks and dead letters, by name."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)


class CallbackMetrics:
    """What is counted of callbacks.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.callbacks = Counter(
            "pushwire_callbacks",
            "Requests of callbacks, by result: delivered, failed, refused by the address guard.",
            ["result"],
            registry=registry,
        )
        self.callback_receipts = Counter(
            "pushwire_callback_receipts", "Receipts delivered by callbacks.", registry=registry
        )
        self.callback_seconds = Histogram(
            "pushwire_callback_seconds",
            "From a callback's request to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.callback_waiting = Gauge(
            "pushwire_callback_waiting",
            "Receipts and messages that wait to be sent as callbacks.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.webhooks = Gauge(
            "pushwire_webhooks",
            "Webhooks, by the state of their endpoint: ok, failing, disabled.",
            ["state"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.callbacks_dead = Counter(
            "pushwire_callbacks_dead",
            "Callbacks that became dead letters, by reason: exhausted, overflow, disabled.",
            ["reason"],
            registry=registry,
        )
        self.dead_letters = Gauge(
            "pushwire_dead_letters",
            "Dead letters that are kept.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.dead_letter_age = Gauge(
            "pushwire_dead_letter_age_seconds",
            "Age of the oldest dead letter.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.dead_letters_lost = Counter(
            "pushwire_dead_letters_lost",
            "Dead letters forgotten because they were too old or too many.",
            registry=registry,
        )
