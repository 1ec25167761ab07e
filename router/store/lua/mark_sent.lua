-- Note that messages were written to the socket and wait for their acks.
-- KEYS: mailbox outbox status…
-- ARGV: device epoch (message sent)…
-- returns: how many were noted
-- events: sent, the first time of each message
-- invariant: nothing is noted of a message that ended
-- FLAGS: allow-oom
local mailbox, outbox = keys[1], keys[2]
local device, epoch = args[1], args[2]
local known = call('HMGET', mailbox, 'p', 'ep')
if not known[1] or known[2] ~= epoch then return 0 end
local noted = 0
for at = 3, #args, 2 do
  local message, sent = args[at], args[at + 1]
  local status = keys[3 + (at - 3) / 2]
  local kept = call('HMGET', status, 'i', 'e:delivered')
  local _, owner = split_head(kept[1] or '')
  if owner == device and not kept[2] then
    noted = noted + 1
    call('HINCRBY', status, 'at', 1)
    if call('HSETNX', status, 'e:sent', sent) == 1 then
      emit(outbox, known[1], message, device, 'sent', sent, '0', '0', '')
    end
  end
end
return noted
