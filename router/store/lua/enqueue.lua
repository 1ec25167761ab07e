-- Accept a message for one device.
-- KEYS: mailbox index frames timers outbox status [idempotency]
-- ARGV: message device project proof now expires collapse frame cap ack_timeout retention digest label rate burst bridge part unfit
-- returns: {seq, shard, epoch}, {seq} without a route, {-1} unregistered, {-2} of another project,
--   {-3} idempotency key used for another request, {-4, first message} repeated,
--   {-5, microseconds} too fast for its device, {-6, bridge} its device's bridge cannot carry it
-- events: accepted; collapsed, dropped of others; expired where a TTL of 0 finds no route and no
--   bridge; failed (no bridge) where a bridge alone may carry it and there is none; dropped (device
--   rate) of a copy that is too fast: its sender was answered before
-- invariant: index, frames, status and the bridge timer change together; a message id is taken once,
--   and pays once
local mailbox, index, frames, timers, outbox, status, idempotency = unpack(keys)
local message, device, project, proof, now, expires, collapse, frame, cap, ack_timeout, retention,
  digest, label, rate, burst, bridge, part, unfit = unpack(args)
local answer = idempotency and answer_before(idempotency, digest, message)
if answer then return answer end
local known = call('HMGET', mailbox, 'p', 'n', 'seq', 'sh', 'ep', 'rt', 'br')
if not known[1] or not is_for(mailbox, known[2], proof) then return {-1} end
if known[1] ~= project then return {-2} end
local refused = unfit ~= '' and known[7] and unfit_of(known[7], unfit, status)
if refused then return {-6, refused} end
local paid, wait = pay(mailbox, known[6], status, rate, burst)
local is_copy = #message > MESSAGE_CHARACTERS
if wait and not is_copy then return {-5, wait} end
local shard, epoch, only = known[4], tonumber(known[5]), is_only(bridge)
if only then shard = false end
local seq = 0
if expires ~= now and not only and not wait then seq = (tonumber(known[3]) or 0) + 1 end
local head = project .. '|' .. device .. '|' .. now .. '|' .. expires .. '|0|' .. seq .. '|' .. collapse
if call('HSETNX', status, 'i', head) == 0 then
  local _, _, _, _, _, taken = split_head(call('HGET', status, 'i'))
  if call('HEXISTS', status, 'e:dropped') == 1 then return {tonumber(taken)} end
  return {tonumber(taken), shard, epoch}
end
if label ~= '' then call('HSET', status, 'l', label) end
if paid then call('HSET', mailbox, 'rt', paid) end
if is_copy and string.sub(proof, 1, 2) == 'u:' then
  call('HSET', status, 'u', string.sub(proof, 3))
end
call('PEXPIRE', status, expires - now + retention)
if idempotency then
  call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)
end
emit(outbox, project, message, device, 'accepted', now, '0', '0', '')
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = project, device = device, now = now, retention = retention}
if wait then
  close(c, status, message, 'dropped', 'device rate')
  return {-5, wait}
end
if seq > 0 then
  put(c, message, seq, expires, collapse, frame, cap, shard and now + ack_timeout)
end
if known[7] and bridge ~= '' then
  bridge_it(c, status, {message = message, seq = seq, expires = expires, once = expires == now,
    frame = frame}, bridge, part, shard, ack_timeout)
elseif seq > 0 then
  return shard and {seq, shard, epoch} or {seq}
elseif only then
  close(c, status, message, 'failed', 'no bridge')
elseif shard then
  call('ZADD', timers, now + ack_timeout, 'lapse:' .. message)
else
  close(c, status, message, 'expired', 'not connected')
end
if shard then return {seq, shard, epoch} end
return {seq}
