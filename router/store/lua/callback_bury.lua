-- Make a dead letter: of the callback at the head of a lane, or, where a mark is given, of events
-- for which the lane had no room.
-- KEYS: lane due dead letters
-- ARGV: member id now letter partition mark bound retention
-- returns: {1, lost}: so many older ones gave way; {0, 0} where it was done before
-- events: none
-- invariant: what leaves a lane undelivered is a dead letter in the same step
-- FLAGS: allow-oom
local lane, due, dead, letters = unpack(keys)
local member, id, now, letter, partition, mark, bound, retention = unpack(args)
if partition ~= '' then
  local known = call('HGET', lane, 'm:' .. partition)
  if known and not is_after(mark, known) then return {0, 0} end
  call('HSET', lane, 'm:' .. partition, mark)
else
  if call('HGET', lane, 'id') ~= id then return {0, 0} end
  call('HDEL', lane, 'id', 'body', 'n', 'created', 'history')
  call('ZADD', due, now, member)
end
call('ZADD', dead, now, id)
call('HSET', letters, id, letter)
return {1, trim_letters(dead, letters, now, bound, retention)}
