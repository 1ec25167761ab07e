-- Take a callback that was delivered from the head of its lane.
-- KEYS: lane due health
-- ARGV: member id now
-- returns: 2 where the endpoint had failed before, 1, or 0 where another callback is at the head
-- events: none
-- invariant: only the callback that is at the head leaves
-- FLAGS: allow-oom
local lane, due, health = unpack(keys)
local member, id, now = unpack(args)
if call('HGET', lane, 'id') ~= id then return 0 end
call('HDEL', lane, 'id', 'body', 'n', 'created', 'history')
call('ZADD', due, now, member)
call('HSET', health, 'ok', now)
return 1 + call('HDEL', health, 'fs')
