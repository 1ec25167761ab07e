"""Every metric, by name. Labels are bounded: never a token, a topic, a device."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.telemetry.bridge_metrics import BridgeMetrics
from router.telemetry.callback_metrics import CallbackMetrics
from router.telemetry.export_metrics import ExportMetrics
from router.telemetry.limit_metrics import LimitMetrics

_LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 3600)
_FAST: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)


class Metrics(BridgeMetrics, CallbackMetrics, ExportMetrics, LimitMetrics):
    """The metrics of one process.

    Args:
        registry: where they are registered; each process has one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        BridgeMetrics.__init__(self, registry)
        CallbackMetrics.__init__(self, registry)
        ExportMetrics.__init__(self, registry)
        LimitMetrics.__init__(self, registry)
        self.connections = Gauge(
            "pushwire_connections",
            "Sessions that hold a socket.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.connects = Counter(
            "pushwire_connects", "Connection attempts, by result.", ["result"], registry=registry
        )
        self.disconnects = Counter(
            "pushwire_disconnects", "Sessions ended, by reason.", ["reason"], registry=registry
        )
        self.sends = Counter(
            "pushwire_sends",
            "Messages offered to the API, by result.",
            ["result"],
            registry=registry,
        )
        self.deliveries = Counter(
            "pushwire_deliveries", "Message frames written to sockets.", registry=registry
        )
        self.acks = Counter("pushwire_acks", "Messages acked by devices.", registry=registry)
        self.nacks = Counter("pushwire_nacks", "Messages nacked by devices.", registry=registry)
        self.redeliveries = Counter(
            "pushwire_redeliveries", "Message frames written again.", registry=registry
        )
        self.receipts = Counter(
            "pushwire_receipts", "Events read from the outbox.", ["event"], registry=registry
        )
        self.ack_latency = Histogram(
            "pushwire_send_to_ack_seconds",
            "From acceptance to ack.",
            buckets=_LATENCY,
            registry=registry,
        )
        self.store_latency = Histogram(
            "pushwire_store_batch_seconds",
            "Round trip of one pipeline.",
            buckets=_FAST,
            registry=registry,
        )
        self.store_batch = Histogram(
            "pushwire_store_batch_commands",
            "Commands in one pipeline.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
            registry=registry,
        )
        self.store_queue = Gauge(
            "pushwire_store_queue",
            "Commands that wait for the store.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.store_errors = Counter(
            "pushwire_store_errors",
            "Store connections lost, and attempts that failed.",
            registry=registry,
        )
        self.inbox_lag = Histogram(
            "pushwire_inbox_lag_seconds",
            "From append to read of an inbox entry, by priority.",
            ["priority"],
            buckets=_FAST,
            registry=registry,
        )
        self.outbox_depth = Gauge(
            "pushwire_outbox_depth",
            "Events in the outboxes that no worker has read.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.timers_due = Gauge(
            "pushwire_timers_due",
            "Timers found due at the last look, at most 128 a partition.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.loop_lag = Histogram(
            "pushwire_loop_lag_seconds",
            "How late the event loop runs.",
            buckets=_FAST,
            registry=registry,
        )
        self._probe = Gauge(
            "pushwire_probe_ok",
            "1 while the last probe came through.",
            ["role"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.hints = Counter("pushwire_hints", "Hints appended to inboxes.", registry=registry)
        self.hints_dropped = Counter(
            "pushwire_hints_dropped",
            "Hints lost or shortened to a wake on their way to a shard, by reason.",
            ["reason"],
            registry=registry,
        )
        self.acks_dropped = Counter(
            "pushwire_acks_dropped",
            "Acks and marks given up while the store was away; those messages come again.",
            registry=registry,
        )
        self.withdrawals = Counter(
            "pushwire_withdrawals",
            "Messages cancelled because their sender heard that nothing was accepted, by result.",
            ["result"],
            registry=registry,
        )
        self.partitions = Gauge(
            "pushwire_partitions_owned",
            "Partitions whose timers and outboxes a worker runs.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.partition_errors = Counter(
            "pushwire_partition_errors",
            "Rounds of background work that failed, by stage.",
            ["stage"],
            registry=registry,
        )
        self.timers = Counter(
            "pushwire_timers", "Timers carried out, by kind.", ["kind"], registry=registry
        )

        self.topics_followed = Gauge(
            "pushwire_topics_followed",
            "Topics with a subscriber, added up over all shards.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.topic_reads = Counter(
            "pushwire_topic_reads",
            "Reads of topic logs for sessions that are behind, by where it was found.",
            ["source"],
            registry=registry,
        )
        self.topic_gaps = Counter(
            "pushwire_topic_gaps",
            "Messages of topics that a shard noticed to have missed; it reads them from the log.",
            registry=registry,
        )

        self.fan_outs_waiting = Gauge(
            "pushwire_fan_outs_waiting",
            "Messages of topics that wait for their turn in a shard, by priority.",
            ["priority"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.fan_out_wait = Histogram(
            "pushwire_fan_out_wait_seconds",
            "From a message's arrival in a shard until the last session had its turn, where it had "
            "to wait.",
            ["priority"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.fan_out_paced = Counter(
            "pushwire_fan_out_paced_seconds",
            "Time in which all that waited in a lane was held back by fan_out_rate.",
            ["priority"],
            registry=registry,
        )

        self.topic_tail_bytes = Gauge(
            "pushwire_topic_tail_bytes",
            "What shards remember of the ends of logs, at the most; bounded by topic_cache_bytes.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    @property
    def probe(self) -> Gauge:
        """The probe's gauge; made at the first use, since the least of all processes counts."""
        return self._probe.labels("shard")


class SupervisorMetrics:
    """The metrics of `serve` itself.

    Args:
        registry: one of its own, beside those of the processes that it runs.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "pushwire_processes_up", "Processes that serve, by role.", ["role"], registry=registry
        )
        self.restarts = Counter(
            "pushwire_process_restarts",
            "Processes started again after a death, by role.",
            ["role"],
            registry=registry,
        )
