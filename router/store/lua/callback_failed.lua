-- Note an attempt that failed, and when the next one is due.
-- KEYS: lane due health
-- ARGV: member id now again history error
-- returns: 1, or 0 where another callback is at the head
-- events: none
-- invariant: the callback stays at the head of its lane
-- FLAGS: allow-oom
local lane, due, health = unpack(keys)
local member, id, now, again, history, error = unpack(args)
if call('HGET', lane, 'id') ~= id then return 0 end
call('HSET', lane, 'history', history)
call('ZADD', due, again, member)
call('HSET', health, 'fl', now, 'er', error)
call('HSETNX', health, 'fs', now)
return 1
