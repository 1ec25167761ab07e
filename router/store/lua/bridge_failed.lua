-- Note that a bridge gives messages up.
-- KEYS: timers outbox status…
-- ARGV: retention (message reason now)…
-- returns: how many were noted
-- events: failed, once a message; it ends a message that no mailbox holds
-- invariant: a message that a mailbox holds stays there: its device may yet connect
-- FLAGS: allow-oom
local timers, outbox = unpack(keys, 1, 2)
local c = {timers = timers, outbox = outbox, retention = args[1]}
local noted = 0
for at = 2, #args, 3 do
  local message, reason, now = args[at], args[at + 1], args[at + 2]
  local status = keys[3 + (at - 2) / 3]
  call('ZREM', timers, 'bridge:' .. message)
  local known = call('HMGET', status, 'i', 'e:bridged', 'e:failed')
  local project, device, _, _, _, seq = split_head(known[1] or '')
  if project and not known[2] and not known[3] and is_waiting(timers, device, message, seq) then
    noted = noted + 1
    c.project, c.device, c.now = project, device, now
    if seq == '0' then
      end_unheld(c, status, message, 'failed', reason)
    else
      call('HSET', status, 'e:failed', now .. '|' .. reason)
      emit(outbox, project, message, device, 'failed', now, '0', '0', reason)
    end
  end
end
return noted
