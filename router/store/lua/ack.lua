-- Take acked messages out of a mailbox.
-- KEYS: mailbox index frames timers outbox status…
-- ARGV: device epoch now retention drops (message seq sent)…
-- returns: how many messages this call ended
-- events: delivered, preceded by sent (in the same entry) where that was not told before
-- invariant: only the newest epoch acks; a message ends once; the device knows of `drops` messages
--   lost to the pending cap, never of more than there were
-- FLAGS: allow-oom
local mailbox, index, frames, timers, outbox = unpack(keys, 1, 5)
local device, epoch, now, retention, drops = unpack(args, 1, 5)
local known = call('HMGET', mailbox, 'p', 'ep', 'br')
if not known[1] or known[2] ~= epoch then return 0 end
if drops ~= '0' then
  local counted = call('HMGET', mailbox, 'dr', 'dk')
  local heard = math.min(tonumber(drops), tonumber(counted[1]) or 0)
  if heard > (tonumber(counted[2]) or 0) then call('HSET', mailbox, 'dk', heard) end
end
local c = {index = index, frames = frames, timers = timers, device = device}
local done = 0
for at = 6, #args, 3 do
  local message, seq, sent = args[at], args[at + 1], args[at + 2]
  local status = keys[6 + (at - 6) / 3]
  local ended = false
  if seq == '0' then
    local _, owner, _, _, _, found = split_head(call('HGET', status, 'i') or '')
    if owner == device then
      seq = found
      ended = seq == '0' and call('ZREM', timers, 'lapse:' .. message) == 1
    end
  end
  if seq ~= '0' then
    local member = call('ZRANGE', index, seq, seq, 'BYSCORE')[1]
    if member and string.sub(member, 1, #message + 1) == message .. '|' then
      remove(c, member, seq, string.match(member, '|%d+|(.*)$'))
      ended = true
    end
  end
  if ended then
    done = done + 1
    if known[3] then forget_job(timers, status, message) end
    if sent ~= '0' and call('HSETNX', status, 'e:sent', sent) == 1 then
      call('HSET', status, 'e:delivered', now, 'at', '1')
    else
      sent = '0'
      call('HSET', status, 'e:delivered', now)
    end
    call('PEXPIRE', status, retention)
    emit(outbox, known[1], message, device, 'delivered', now, accepted_of(message), sent, '')
  end
end
if done > 0 then settle(c) end
return done
