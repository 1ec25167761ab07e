"""The metrics of the export, by name."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ExportMetrics:
    """What is counted of the export.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.export_files = Counter(
            "pushwire_export_files", "Files that the sink of the export took.", registry=registry
        )
        self.export_bytes = Counter(
            "pushwire_export_bytes",
            "Bytes of the files that the sink of the export took.",
            registry=registry,
        )
        self.export_events = Counter(
            "pushwire_export_events",
            "Events in the files that the sink of the export took.",
            registry=registry,
        )
        self.export_failures = Counter(
            "pushwire_export_failures",
            "Attempts to export a file that failed; it is tried again.",
            registry=registry,
        )
        self.export_lost = Counter(
            "pushwire_export_lost",
            "Entries of outboxes that are in no file, by reason: trimmed while the export was too "
            "far behind, unreadable.",
            ["reason"],
            registry=registry,
        )
        self.export_waiting = Gauge(
            "pushwire_export_waiting",
            "Entries of outboxes that were read and are in no file yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.export_lag = Gauge(
            "pushwire_export_lag_seconds",
            "Age of the oldest event that was read and is in no file yet.",
            registry=registry,
            multiprocess_mode="livemax",
        )
