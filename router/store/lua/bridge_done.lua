-- Note that a provider took messages.
-- KEYS: timers outbox status…
-- ARGV: retention (message id now)…
-- returns: how many were noted
-- events: bridged; it ends a message that no mailbox holds
-- invariant: a message is bridged once, and never after it ended
-- FLAGS: allow-oom
local timers, outbox = unpack(keys, 1, 2)
local c = {timers = timers, outbox = outbox, retention = args[1]}
local noted = 0
for at = 2, #args, 3 do
  local message, id, now = args[at], args[at + 1], args[at + 2]
  local status = keys[3 + (at - 2) / 3]
  call('ZREM', timers, 'bridge:' .. message)
  local known = call('HMGET', status, 'i', 'e:bridged')
  local project, device, _, _, _, seq = split_head(known[1] or '')
  if project and not known[2] and is_waiting(timers, device, message, seq) then
    noted = noted + 1
    c.project, c.device, c.now = project, device, now
    if seq == '0' then
      end_unheld(c, status, message, 'bridged', id)
    else
      call('HSET', status, 'e:bridged', id == '' and now or now .. '|' .. id)
      call('HDEL', status, 'bb', 'bp')
      emit(outbox, project, message, device, 'bridged', now, '0', '0', id)
    end
  end
end
return noted
