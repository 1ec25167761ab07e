-- Begin to withdraw a message to a user or a group; its copies are each cancelled after.
-- KEYS: timers outbox status
-- ARGV: message project now again retention
-- returns: the status hash as it is then; nil where the project has no such message
-- events: cancelled, of a scheduled one that has no copies yet
-- invariant: no copy that is made after it stays: who makes one looks here last
-- FLAGS: allow-oom
local timers, outbox, status = unpack(keys)
local message, project, now, again, retention = unpack(args)
local kept = call('HMGET', status, 'i', 'f', 'd')
local owner, target = split_head(kept[1] or '')
if owner ~= project then return nil end
if kept[3] then
  call('HSETNX', status, 'x', now)
  if kept[2] then call('ZADD', timers, again, 'spread:' .. message) end
elseif call('ZREM', timers, 'spread:' .. message) == 1 then
  call('HDEL', status, 'f', 'bb', 'bp', 'rt')
  close({outbox = outbox, project = project, device = target, now = now, retention = retention},
    status, message, 'cancelled', '')
end
return call('HGETALL', status)
