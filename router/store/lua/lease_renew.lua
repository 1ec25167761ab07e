-- Take or renew the lease of a shard.
-- KEYS: lease
-- ARGV: value ttl
-- returns: 1
-- events: none
-- invariant: a store that is out of memory lets leases live on, or nobody would make room in it
-- FLAGS: allow-oom
call('SET', keys[1], args[1], 'PX', args[2])
return 1
