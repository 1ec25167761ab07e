-- Note until when a worker holds its lease.
-- KEYS: workers
-- ARGV: worker until
-- returns: 1 the first time, otherwise 0
-- events: none
-- invariant: as lease_renew
-- FLAGS: allow-oom
return call('ZADD', keys[1], args[2], args[1])
