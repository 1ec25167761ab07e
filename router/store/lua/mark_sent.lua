-- Note that messages were written to the socket and wait for their acks.
-- KEYS: mailbox index timers outbox status…
-- ARGV: device epoch (message seq sent)…
-- returns: how many were noted
-- events: sent, the first time of each message
-- invariant: nothing is noted of a message that ended
-- FLAGS: allow-oom
local mailbox, index, timers, outbox = unpack(keys, 1, 4)
local device, epoch = args[1], args[2]
local known = call('HMGET', mailbox, 'p', 'ep')
if not known[1] or known[2] ~= epoch then return 0 end
local noted = 0
for at = 3, #args, 3 do
  local message, seq, sent = args[at], args[at + 1], args[at + 2]
  local status = keys[5 + (at - 3) / 3]
  local pending
  if seq == '0' then
    pending = call('ZSCORE', timers, 'lapse:' .. message)
  else
    local member = call('ZRANGE', index, seq, seq, 'BYSCORE')[1]
    pending = member and string.sub(member, 1, #message + 1) == message .. '|'
  end
  if pending then
    noted = noted + 1
    call('HINCRBY', status, 'at', 1)
    if call('HSETNX', status, 'e:sent', sent) == 1 then
      emit(outbox, known[1], message, device, 'sent', sent, '0', '0', '')
    end
  end
end
return noted
