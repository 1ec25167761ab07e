-- Note that a shard holds a lease.
-- KEYS: shards
-- ARGV: shard
-- returns: 1 the first time, otherwise 0
-- events: none
-- invariant: as lease_renew
-- FLAGS: allow-oom
return call('SADD', keys[1], args[1])
