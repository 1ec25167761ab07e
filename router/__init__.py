"""The message core: no listener, all state changes.

The way of a message, one module a stage: `send` checks and stores it (`store.mailbox`,
`lua/enqueue.lua`), `routing` hints the shard (`store.inbox`), the shard delivers, `acks` takes the
answer (`lua/ack.lua`), `redelivery` comes back to what stays unacked, and `receipts` reads every
event of it from the outbox. `partitions` runs the last two for the partitions that a worker owns.
"""
