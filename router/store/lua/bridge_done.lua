-- Note that a provider took messages.
-- KEYS: timers outbox status…
-- ARGV: retention (message id now)…
-- returns: {noted, (message project receipts)… of copies of messages to topics that were noted}
-- events: bridged, not of a message to a topic; it ends a message that no mailbox holds
-- invariant: a message is bridged once, and never after it ended
-- FLAGS: allow-oom
local timers, outbox = unpack(keys, 1, 2)
local c = {timers = timers, outbox = outbox, retention = args[1]}
local out = {0}
for at = 2, #args, 3 do
  local message, id, now = args[at], args[at + 1], args[at + 2]
  local status = keys[3 + (at - 2) / 3]
  call('ZREM', timers, 'bridge:' .. message)
  local known = call('HMGET', status, 'i', 'e:bridged')
  local project, device, _, _, _, seq, last = split_head(known[1] or '')
  if project and not known[2] and is_waiting(timers, message, project, device, seq, last) then
    out[1] = out[1] + 1
    c.project, c.device, c.now = project, device, now
    if is_topic_copy(message) then
      for _, part in ipairs({message, project, call('HGET', status, 'r') or ''}) do
        out[#out + 1] = part
      end
      call('UNLINK', status)
    elseif seq == '0' then
      end_unheld(c, status, message, 'bridged', id)
    else
      call('HSET', status, 'e:bridged', id == '' and now or now .. '|' .. id)
      call('HDEL', status, 'bb', 'bp')
      emit(outbox, project, message, device, 'bridged', now, '0', '0', id)
    end
  end
end
return out
