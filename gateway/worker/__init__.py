"""The worker: timers and outboxes of the partitions that it owns."""
