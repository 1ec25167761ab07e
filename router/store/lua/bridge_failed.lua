-- Note that a bridge gives messages up.
-- KEYS: timers outbox status…
-- ARGV: retention (message reason now)…
-- returns: {noted, (message project receipts)… of copies of messages to topics that were noted}
-- events: failed, once a message, not of one to a topic; it ends a message that no mailbox holds
-- invariant: a message that a mailbox holds stays there: its device may yet connect
-- FLAGS: allow-oom
local timers, outbox = unpack(keys, 1, 2)
local c = {timers = timers, outbox = outbox, retention = args[1]}
local out = {0}
for at = 2, #args, 3 do
  local message, reason, now = args[at], args[at + 1], args[at + 2]
  local status = keys[3 + (at - 2) / 3]
  call('ZREM', timers, 'bridge:' .. message)
  local known = call('HMGET', status, 'i', 'e:bridged', 'e:failed')
  local project, device, _, _, _, seq, last = split_head(known[1] or '')
  if project and not known[2] and not known[3] and is_waiting(timers, message, project, device, seq, last) then
    out[1] = out[1] + 1
    c.project, c.device, c.now = project, device, now
    if is_topic_copy(message) then
      call('HSET', status, 'e:failed', now .. '|' .. reason)
      for _, part in ipairs({message, project, call('HGET', status, 'r') or ''}) do
        out[#out + 1] = part
      end
    elseif seq == '0' then
      end_unheld(c, status, message, 'failed', reason)
    else
      call('HSET', status, 'e:failed', now .. '|' .. reason)
      emit(outbox, project, message, device, 'failed', now, '0', '0', reason)
    end
  end
end
return out
