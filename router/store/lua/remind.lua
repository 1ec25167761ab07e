-- Say which session is to read its device's topics anew.
-- KEYS: mailbox timers
-- ARGV: device now again
-- returns: {shard, epoch}, or nil where the device is not connected, or nobody has read for long
-- events: none
-- invariant: the timer stands until the session has read, is over, or was reminded for an hour: a
--   shard that was killed leaves a route behind, which only the device's next session removes
-- FLAGS: allow-oom
local mailbox, timers = unpack(keys)
local device, now, again = unpack(args)
local known = call('HMGET', mailbox, 'sh', 'ep', 'rm')
local until_ms = tonumber(known[3]) or tonumber(now) + REMIND_MS
if not known[1] or tonumber(now) >= until_ms then
  call('ZREM', timers, 'topics:' .. device)
  call('HDEL', mailbox, 'rm')
  return nil
end
if not known[3] then call('HSET', mailbox, 'rm', string.format('%d', until_ms)) end
call('ZADD', timers, again, 'topics:' .. device)
return {known[1], tonumber(known[2])}
