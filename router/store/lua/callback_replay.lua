-- Move a dead letter to the end of its lane, with the id and body that it had.
-- KEYS: lane queue due dead letters
-- ARGV: member id now limit element
-- returns: 1, 0 where there is no such dead letter, -1 where the lane has no room
-- events: none
-- invariant: removing the dead letter is what permits it, so it is queued once
local lane, queue, due, dead, letters = unpack(keys)
local member, id, now, limit, element = unpack(args)
if not call('ZSCORE', dead, id) then return 0 end
if tonumber(call('HGET', lane, 'b') or 0) >= tonumber(limit) then return -1 end
call('ZREM', dead, id)
call('HDEL', letters, id)
call('RPUSH', queue, element)
call('HINCRBY', lane, 'b', #element)
call('ZADD', due, 'NX', now, member)
return 1
