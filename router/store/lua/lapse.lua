-- End a message with a TTL of 0 that was not acked.
-- KEYS: timers outbox status
-- ARGV: message now retention
-- returns: 1, or 0 where it had ended
-- events: expired
-- invariant: removing the lapse timer is what permits it, so it ends once
-- FLAGS: allow-oom
local timers, outbox, status = unpack(keys)
local message, now, retention = unpack(args)
if call('ZREM', timers, 'lapse:' .. message) == 0 then return 0 end
local project, device = split_head(call('HGET', status, 'i') or '')
if not project then return 0 end
local c = {outbox = outbox, project = project, device = device, now = now, retention = retention}
close(c, status, message, 'expired', 'not acked')
return 1
