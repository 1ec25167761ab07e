-- Note that all copies of a message to a user or a group are made, or taken back.
-- KEYS: timers outbox status
-- ARGV: message taken_back reached now retention
-- returns: 1, or 0 where it was cancelled meanwhile, so that the copies are to be taken back
-- events: dropped (no devices), where none of them was a member any more and `reached` is 0
-- invariant: the timer of a cancelled message stands until its copies were taken back; a status that
--   would last for long is looked at again (keep), as most copies end early
-- FLAGS: allow-oom
local timers, outbox, status = unpack(keys)
local message, taken_back, reached, now, retention = unpack(args)
if taken_back == '0' and call('HEXISTS', status, 'x') == 1 then return 0 end
call('ZREM', timers, 'spread:' .. message)
call('HDEL', status, 'f', 'bb', 'bp', 'rt')
local project, target, _, expires = split_head(call('HGET', status, 'i') or '')
if not project then return 1 end
if reached == '0' then
  if taken_back == '0' and call('HEXISTS', status, 'e:dropped') == 0 then
    close({outbox = outbox, project = project, device = target, now = now, retention = retention},
      status, message, 'dropped', 'no devices')
  end
elseif expires - now > tonumber(retention) then
  call('PEXPIRE', status, 2 * retention)
  call('ZADD', timers, now + retention, 'keep:' .. message)
end
return 1
