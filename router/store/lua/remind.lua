-- Say which session is to read its device's topics anew.
-- KEYS: mailbox timers
-- ARGV: device again
-- returns: {shard, epoch}, or nil where the device is not connected
-- events: none
-- invariant: the timer stands until the session has read, or is over
-- FLAGS: allow-oom
local mailbox, timers = unpack(keys)
local device, again = unpack(args)
local known = call('HMGET', mailbox, 'sh', 'ep')
if not known[1] then
  call('ZREM', timers, 'topics:' .. device)
  return nil
end
call('ZADD', timers, again, 'topics:' .. device)
return {known[1], tonumber(known[2])}
