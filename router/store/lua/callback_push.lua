-- Put events of one partition at the end of a lane.
-- KEYS: lane queue due
-- ARGV: member partition first last now linger limit (element)…
-- returns: {1} taken, {0, mark} some were taken before: those up to the mark, {-1} no room
-- events: none
-- invariant: an entry of an outbox enters a lane once; a lane with anything in it stands in `due`
local lane, queue, due = unpack(keys)
local member, partition, first, last, now, linger, limit = unpack(args, 1, 7)
local known = call('HMGET', lane, 'm:' .. partition, 'b', 'id')
if known[1] and not is_after(first, known[1]) then return {0, known[1]} end
local bytes = tonumber(known[2] or 0)
if bytes >= tonumber(limit) then return {-1} end
for at = 8, #args do bytes = bytes + #args[at] end
local waiting = call('RPUSH', queue, unpack(args, 8))
call('HSET', lane, 'm:' .. partition, last, 'b', bytes)
if known[3] then
  call('ZADD', due, 'NX', now, member)
else
  call('ZADD', due, 'LT', now + (waiting < BATCH and linger or 0), member)
end
return {1}
