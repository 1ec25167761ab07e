-- Write a field of a hash in the place of what the caller had read there.
-- KEYS: hash
-- ARGV: field before after
-- returns: 1, or 0 where it is another by now
-- events: none
-- invariant: what somebody else wrote meanwhile stays, and what is gone does not come back
-- FLAGS: allow-oom
local found = call('HGET', keys[1], args[1])
if found == args[3] then return 1 end -- carried out before, its answer lost
if found ~= args[2] then return 0 end
call('HSET', keys[1], args[1], args[3])
return 1
