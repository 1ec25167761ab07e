-- Keep a message back until later.
-- KEYS: mailbox index frames timers outbox status
-- ARGV: device epoch message seq reason not_before now
-- returns: 1, or 0 where nothing changed
-- events: nacked
-- invariant: the message stays pending, and a timer comes back to it
-- FLAGS: allow-oom
local mailbox, index, frames, timers, outbox, status = unpack(keys)
local device, epoch, message, seq, reason, not_before, now = unpack(args)
local known = call('HMGET', mailbox, 'p', 'ep', 'nk')
if not known[1] or known[2] ~= epoch then return 0 end
if seq == '0' then
  local _, owner, _, _, _, found = split_head(call('HGET', status, 'i') or '')
  if owner ~= device or found == '0' then return 0 end
  seq = found
end
local member = call('ZRANGE', index, seq, seq, 'BYSCORE')[1]
if not member or string.sub(member, 1, #message + 1) ~= message .. '|' then return 0 end
call('HSET', frames, 'n:' .. seq, not_before)
if tonumber(not_before) > (tonumber(known[3]) or 0) then
  call('HSET', mailbox, 'nk', not_before)
end
call('ZADD', timers, 'LT', not_before, 'redeliver:' .. device)
local value = now
if reason ~= '' then value = now .. '|' .. reason end
call('HSETNX', status, 'e:nacked', value)
emit(outbox, known[1], message, device, 'nacked', now, '0', '0', reason)
return 1
