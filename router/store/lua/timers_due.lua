-- List timers that are due.
-- KEYS: lease timers
-- ARGV: worker now limit
-- returns: names, the most overdue first; nothing where the worker does not own the partition
-- events: none
-- invariant: reading removes nothing
-- FLAGS: no-writes
if call('GET', keys[1]) ~= args[1] then return {} end
return call('ZRANGE', keys[2], '-inf', args[2], 'BYSCORE', 'LIMIT', 0, args[3])
