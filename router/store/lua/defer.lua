-- Accept a message to many that is published later.
-- KEYS: state timers outbox status [idempotency]
-- ARGV: message target project now expires key receipts frame selection send_at retention digest label rate burst bridge part
-- returns: as publish, seq 0 and no shards
-- events: scheduled
-- invariant: the frame stands in the status as long as the issue timer does
local state, timers, outbox, status, idempotency = unpack(keys)
local message, target, project, now, expires, key, receipts, frame, selection, send_at, retention,
  digest, label, rate, burst, bridge, part = unpack(args)
local answer = idempotency and answer_before(idempotency, digest, message)
if answer then return answer end
local head = project .. '|' .. target .. '|' .. now .. '|' .. expires .. '|' .. send_at .. '|0|'
  .. key
if call('EXISTS', status) == 1 then return {0, 0} end
local wait = pay_topic(state, status, rate, burst)
if wait then return {-5, wait} end
call('HSET', status, 'i', head)
call('HSET', status, 'r', receipts, 'f', frame)
if label ~= '' then call('HSET', status, 'l', label) end
if selection ~= '' then call('HSET', status, 's', selection) end
keep_bridge(status, bridge, part)
call('PEXPIRE', status, math.max(tonumber(expires), tonumber(send_at)) - now + retention)
if idempotency then
  call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)
end
call('ZADD', timers, send_at, 'issue:' .. message)
emit(outbox, project, message, whole(target, receipts), 'scheduled', now, '0', '0', '')
return {0, 0}
