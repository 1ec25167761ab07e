-- Have a message that a bridge gave up tried anew.
-- KEYS: timers status
-- ARGV: message now
-- returns: 1, or 0 where it does not wait any more, a provider took it, or it is tried already
-- events: none
-- invariant: nothing that ended comes back
local timers, status = unpack(keys)
local message, now = unpack(args)
local known = call('HMGET', status, 'i', 'bb', 'e:bridged', 'bg')
local project, device, _, expires, _, seq, last = split_head(known[1] or '')
if not device or not known[2] or known[3] or not known[4] then return 0 end
-- One with a TTL of 0 is over, too.
if tonumber(expires) <= tonumber(now) then return 0 end
if not is_waiting(timers, message, project, device, seq, last) then return 0 end
call('HDEL', status, 'ba', 'bh', 'bg')
call('ZADD', timers, now, 'bridge:' .. message)
return 1
