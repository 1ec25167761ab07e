-- Note that all copies of a message to a user or a group are made, or taken back.
-- KEYS: timers status
-- ARGV: message taken_back
-- returns: 1, or 0 where it was cancelled meanwhile, so that the copies are to be taken back
-- events: none
-- invariant: the timer of a cancelled message stands until its copies were taken back
-- FLAGS: allow-oom
local timers, status = unpack(keys)
local message, taken_back = unpack(args)
if taken_back == '0' and call('HEXISTS', status, 'x') == 1 then return 0 end
call('ZREM', timers, 'spread:' .. message)
call('HDEL', status, 'f')
return 1
