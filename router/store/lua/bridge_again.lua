-- Have a message that a bridge gave up tried anew.
-- KEYS: timers status
-- ARGV: message now
-- returns: 1, or 0 where it does not wait any more, or a provider took it
-- events: none
-- invariant: nothing that ended comes back
local timers, status = unpack(keys)
local message, now = unpack(args)
local known = call('HMGET', status, 'i', 'bb', 'e:bridged')
local project, device, _, _, _, seq, last = split_head(known[1] or '')
if not device or not known[2] or known[3] then return 0 end
if not is_waiting(timers, message, project, device, seq, last) then return 0 end
call('HDEL', status, 'ba', 'bh')
call('ZADD', timers, now, 'bridge:' .. message)
return 1
