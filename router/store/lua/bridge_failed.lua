-- Note that a bridge gives messages up.
-- KEYS: timers outbox status…
-- ARGV: retention (message reason now buried)…
-- returns: {noted, (message project receipts)… of copies of messages to topics that were noted, by
--   this call or by the same one before: to be counted, and their field nc removed then}
-- events: failed, once a message, not of one to a topic; it ends a message that no mailbox holds,
--   for good unless it was buried as a dead letter and has time left
-- invariant: a message that a mailbox holds stays there: its device may yet connect. What was given
--   up is not tried again unless its sender asks for it
-- FLAGS: allow-oom
local timers, outbox = unpack(keys, 1, 2)
local c = {timers = timers, outbox = outbox, retention = args[1]}
local out = {0}
for at = 2, #args, 4 do
  local message, reason = args[at], args[at + 1]
  local now, buried = args[at + 2], args[at + 3]
  local status = keys[3 + (at - 2) / 4]
  call('ZREM', timers, 'bridge:' .. message)
  local told = now .. '|' .. reason
  local known = call('HMGET', status, 'i', 'e:bridged', 'e:failed', 'r', 'nc')
  local project, device, created, expires, _, seq, last = split_head(known[1] or '')
  local copy, first = is_topic_copy(message), not known[3]
  local stands = project and not known[2]
    and is_waiting(timers, message, project, device, seq, last)
  if stands and first then out[1] = out[1] + 1 end
  if copy and ((stands and first) or known[5] == told) then
    call('HSET', status, 'nc', told)
    for _, part in ipairs({message, project, known[4] or ''}) do out[#out + 1] = part end
  end
  if stands then
    c.project, c.device, c.now = project, device, now
    local ends = seq == '0' and not copy
    if ends and (buried ~= '1' or created == expires) then
      end_unheld(c, status, message, 'failed', reason)
    else
      call('HSET', status, 'bg', '1')
      if first then
        call('HSET', status, 'e:failed', told)
        if not copy then emit(outbox, project, message, device, 'failed', now, '0', '0', reason) end
      end
    end
  end
end
return out
