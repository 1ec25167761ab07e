-- Note that a provider took messages.
-- KEYS: timers outbox status…
-- ARGV: retention (message id now)…
-- returns: {noted, (message project receipts)… of copies of messages to topics that were noted, by
--   this call or by the same one before: to be counted, and their statuses removed then}
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
  local told = id == '' and now or now .. '|' .. id
  local known = call('HMGET', status, 'i', 'e:bridged', 'r')
  local project, device, _, _, _, seq, last = split_head(known[1] or '')
  local copy = is_topic_copy(message)
  local noted = project and not known[2]
    and is_waiting(timers, message, project, device, seq, last)
  if noted then out[1] = out[1] + 1 end
  if copy and (noted or known[2] == told) then
    for _, part in ipairs({message, project, known[3] or ''}) do out[#out + 1] = part end
    call('HSET', status, 'e:bridged', told)
    call('PEXPIRE', status, DONE_MS)
  elseif noted then
    c.project, c.device, c.now = project, device, now
    if seq == '0' then
      end_unheld(c, status, message, 'bridged', id)
    else
      call('HSET', status, 'e:bridged', told)
      call('HDEL', status, 'bb', 'bp', 'bg')
      emit(outbox, project, message, device, 'bridged', now, '0', '0', id)
    end
  end
end
return out
