-- Take or renew the lease of a partition.
-- KEYS: lease
-- ARGV: worker ttl
-- returns: 1, or 0 where another worker holds it
-- events: none
-- invariant: one holder at a time
-- FLAGS: allow-oom
local holder = call('GET', keys[1])
if holder and holder ~= args[1] then return 0 end
call('SET', keys[1], args[1], 'PX', args[2])
return 1
