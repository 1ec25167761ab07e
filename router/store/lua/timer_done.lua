-- Remove a timer unless it was set anew to a later time.
-- KEYS: timers
-- ARGV: name due
-- returns: 1, or 0 where it stays
-- events: none
-- invariant: a timer set after `due` survives
-- FLAGS: allow-oom
local score = call('ZSCORE', keys[1], args[1])
if not score or tonumber(score) > tonumber(args[2]) then return 0 end
return call('ZREM', keys[1], args[1])
