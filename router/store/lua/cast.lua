-- Accept a message for all devices of a user or a group.
-- KEYS: members timers outbox status [idempotency]
-- ARGV: message target project now expires collapse frame send_at again retention digest label bridge part rate burst
-- returns: {0, device, stamp…} with the devices that it goes to, {0} for a scheduled one; {-1} no
--   devices, {-2} no such group, {-3} idempotency key used for another request, {-4, first message}
--   repeated
-- events: accepted, or scheduled
-- invariant: the frame stands in the status as long as copies may be missing, and so do the spread
--   timer and the rate that each device pays for; the devices are fixed once
local members, timers, outbox, status, idempotency = unpack(keys)
local message, target, project, now, expires, collapse, frame, send_at, again, retention, digest,
  label, bridge, part, rate, burst = unpack(args)
local answer = idempotency and answer_before(idempotency, digest, message)
if answer then return answer end
if call('HEXISTS', status, 'i') == 1 then return devices_of(call('HGET', status, 'd'), {0}) end
local listed = members_of(members)
if not listed then return {-2} end
if send_at == '0' and listed == '' then return {-1} end
call('HSET', status, 'i', project .. '|' .. target .. '|' .. now .. '|' .. expires .. '|' .. send_at
  .. '|0|' .. collapse, 'f', frame)
if rate ~= '0' then call('HSET', status, 'rt', rate .. '|' .. burst) end
if label ~= '' then call('HSET', status, 'l', label) end
keep_bridge(status, bridge, part)
call('PEXPIRE', status, math.max(tonumber(expires), tonumber(send_at)) - now + retention)
if idempotency then
  call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)
end
if send_at ~= '0' then
  call('ZADD', timers, send_at, 'spread:' .. message)
  emit(outbox, project, message, target, 'scheduled', now, '0', '0', '')
  return {0}
end
call('HSET', status, 'd', listed)
call('ZADD', timers, again, 'spread:' .. message)
emit(outbox, project, message, target, 'accepted', now, '0', '0', '')
return devices_of(listed, {0})
