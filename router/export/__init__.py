"""Export: every event, in files for analytics.

The way of an event: `feed` reads it from the outbox into a bounded buffer, which is all that the
loop of a partition ever waits for; `exporter`, a task of its own, makes records of it (`records`),
writes them with an encoder (`ndjson`, `parquet`) and gives the finished file to a sink (`sinks`).
Only when the sink has the file for good does the group's cursor move: at least once.

Before: the outbox, as `router.receipts` describes it. After: a directory, an object store, a
collector. A new kind of destination is one new file in `sinks`.
"""
