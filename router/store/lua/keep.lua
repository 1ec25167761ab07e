-- Keep the status of a message to a user or a group as long as a mailbox holds a copy of it.
-- KEYS: timers status
-- ARGV: message now retention pending
-- returns: 1 where it is kept on, otherwise 0
-- events: none
-- invariant: the status outlives the last copy, by no more than two retentions
-- FLAGS: allow-oom
local timers, status = unpack(keys)
local message, now, retention, pending = unpack(args)
if pending == '0' or call('PEXPIRE', status, 2 * retention) == 0 then
  call('ZREM', timers, 'keep:' .. message)
  return 0
end
call('ZADD', timers, now + retention, 'keep:' .. message)
return 1
