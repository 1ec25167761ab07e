-- Withdraw a message that still waits.
-- KEYS: mailbox index frames timers outbox status
-- ARGV: message project now retention
-- returns: the status hash as it is then; nil where the project has no such message
-- events: cancelled
-- invariant: a message that ended stays as it ended
-- FLAGS: allow-oom
local mailbox, index, frames, timers, outbox, status = unpack(keys)
local message, project, now, retention = unpack(args)
local owner, device, _, _, _, seq = split_head(call('HGET', status, 'i') or '')
if owner ~= project then return nil end
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = project, device = device, now = now, retention = retention}
if call('ZREM', timers, 'send:' .. message) == 1 then
  call('HDEL', status, 'f', 'bb', 'bp')
  close(c, status, message, 'cancelled', '')
elseif seq ~= '0' then
  local member = call('ZRANGE', index, seq, seq, 'BYSCORE')[1]
  if member and string.sub(member, 1, #message + 1) == message .. '|' then
    finish(c, member, seq, 'cancelled', '')
    settle(c)
  end
elseif call('HEXISTS', status, 'bb') == 1 and call('ZREM', timers, 'lapse:' .. message) == 1 then
  end_unheld(c, status, message, 'cancelled', '')
end
return call('HGETALL', status)
