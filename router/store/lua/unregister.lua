-- End a registration and drop the first window of what is pending; `expire` drops the rest.
-- KEYS: mailbox index frames timers outbox
-- ARGV: device project now retention
-- returns: {1, br, remaining, shard, epoch}, {1, br, remaining} without a route, {0} where the
--   project has no such device
-- events: dropped (unregistered); unregistered
-- invariant: after it no message enters and no topic counts it; the expire timer stands as long as
--   a message does
-- FLAGS: allow-oom
local mailbox, index, frames, timers, outbox = unpack(keys)
local device, project, now, retention = unpack(args)
local known = call('HMGET', mailbox, 'p', 'sh', 'ep', 'tc', 'br')
if known[1] ~= project then return {0} end
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = project, device = device, now = now, retention = retention}
local topics = topics_of(mailbox, known[4])
for at = 1, #topics, 2 do
  call('SREM', string.match(mailbox, '^{.-}') .. ':members:' .. project .. ':' .. topics[at], device)
end
if known[5] then
  unreach(mailbox, timers, project, device, reached_topics(mailbox, known[4]))
end
call('UNLINK', mailbox)
local found = call('ZRANGE', index, 0, WINDOW - 1, 'WITHSCORES')
for at = 1, #found, 2 do finish(c, found[at], found[at + 1], 'dropped', 'unregistered') end
emit(outbox, project, '', device, 'unregistered', now, '0', '0', '')
local remaining = call('ZCARD', index)
if remaining == 0 then
  call('UNLINK', frames)
  settle(c)
else
  call('ZREM', timers, 'redeliver:' .. device)
  call('ZADD', timers, now, 'expire:' .. device)
end
if known[2] then return {1, known[5] or '', remaining, known[2], tonumber(known[3])} end
return {1, known[5] or '', remaining}
