-- Note that all copies of a message to a user or a group are made, or taken back.
-- KEYS: timers status
-- ARGV: message taken_back now retention
-- returns: 1, or 0 where it was cancelled meanwhile, so that the copies are to be taken back
-- events: none
-- invariant: the timer of a cancelled message stands until its copies were taken back; a status that
--   would last for long is looked at again (keep), as most copies end early
-- FLAGS: allow-oom
local timers, status = unpack(keys)
local message, taken_back, now, retention = unpack(args)
if taken_back == '0' and call('HEXISTS', status, 'x') == 1 then return 0 end
call('ZREM', timers, 'spread:' .. message)
call('HDEL', status, 'f')
local _, _, _, expires = split_head(call('HGET', status, 'i') or '')
if expires and expires - now > tonumber(retention) then
  call('PEXPIRE', status, 2 * retention)
  call('ZADD', timers, now + retention, 'keep:' .. message)
end
return 1
