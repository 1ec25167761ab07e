-- Accept a message that enters the mailbox later.
-- KEYS: mailbox timers outbox status [idempotency]
-- ARGV: message device project nonce now expires collapse frame send_at retention digest label rate burst bridge part unfit
-- returns: as enqueue, seq 0
-- events: scheduled
-- invariant: the frame stands in the status as long as the send timer does
local mailbox, timers, outbox, status, idempotency = unpack(keys)
local message, device, project, nonce, now, expires, collapse, frame, send_at, retention, digest,
  label, rate, burst, bridge, part, unfit = unpack(args)
local answer = idempotency and answer_before(idempotency, digest, message)
if answer then return answer end
local known = call('HMGET', mailbox, 'p', 'n', 'rt', 'br')
if not known[1] or known[2] ~= nonce then return {-1} end
if known[1] ~= project then return {-2} end
local refused = unfit ~= '' and known[4] and unfit_of(known[4], unfit, status)
if refused then return {-6, refused} end
local paid, wait = pay(mailbox, known[3], status, rate, burst)
if wait then return {-5, wait} end
local head = project .. '|' .. device .. '|' .. now .. '|' .. expires .. '|' .. send_at .. '|0|'
  .. collapse
if call('HSETNX', status, 'i', head) == 0 then return {0} end
if paid then call('HSET', mailbox, 'rt', paid) end
call('HSET', status, 'f', frame)
keep_bridge(status, bridge, part)
if label ~= '' then call('HSET', status, 'l', label) end
call('PEXPIRE', status, math.max(tonumber(expires), tonumber(send_at)) - now + retention)
if idempotency then
  call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)
end
call('ZADD', timers, send_at, 'send:' .. message)
emit(outbox, project, message, device, 'scheduled', now, '0', '0', '')
return {0}
