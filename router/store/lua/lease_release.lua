-- Give up the lease of a partition.
-- KEYS: lease
-- ARGV: worker
-- returns: 1, or 0 where another worker holds it
-- events: none
-- invariant: nobody gives up another's lease
-- FLAGS: allow-oom
if call('GET', keys[1]) ~= args[1] then return 0 end
return call('DEL', keys[1])
