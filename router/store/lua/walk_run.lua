-- Tell which run of a server holds a partition.
-- KEYS: bridged
-- ARGV: none
-- returns: the id of the run; empty where the partition has no such set
-- events: none
-- invariant: a cursor of SSCAN says something within one run alone: servers hash with a seed of
--   their own, and take another when they start
-- FLAGS: no-writes
if call('EXISTS', keys[1]) == 0 then return '' end
return string.match(call('INFO', 'server'), 'run_id:(%w+)') or '?'
