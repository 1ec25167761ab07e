-- Put a timer off.
-- KEYS: timers
-- ARGV: name due
-- returns: 1, or 0 where it is gone
-- events: none
-- invariant: no timer comes back, and none becomes earlier
-- FLAGS: allow-oom
if not call('ZSCORE', keys[1], args[1]) then return 0 end
call('ZADD', keys[1], 'XX', 'GT', args[2], args[1])
return 1
