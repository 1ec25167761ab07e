-- End a session.
-- KEYS: mailbox timers
-- ARGV: device epoch now
-- returns: 1, or 0 where a newer session stands
-- events: none
-- invariant: only the session that holds the route gives it up
-- FLAGS: allow-oom
local mailbox, timers = unpack(keys)
local device, epoch, now = unpack(args)
local known = call('HMGET', mailbox, 'ep', 'sh')
if known[1] ~= epoch or not known[2] then return 0 end
call('HDEL', mailbox, 'sh')
call('HSET', mailbox, 'sa', now)
call('ZREM', timers, 'redeliver:' .. device)
return 1
