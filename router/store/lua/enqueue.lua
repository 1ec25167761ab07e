-- Accept messages for devices of one partition, each for itself.
-- KEYS: timers outbox (mailbox index frames status [idempotency])…
-- ARGV: cap ack_timeout retention (message device project proof now expires collapse frame more
--   [digest label rate burst bridge part unfit])…; `more` is 0 where that is all, 2 with a key
-- returns: of each message: {seq, shard, epoch}, {seq} without a route, {-1} unregistered, {-2} of
--   another project, {-3} idempotency key used for another request, {-4, first message} repeated,
--   {-5, microseconds} too fast for its device, {-6, bridge} its device's bridge cannot carry it
-- events: accepted; collapsed, dropped of others; expired where a TTL of 0 finds no route and no
--   bridge; failed (no bridge) where a bridge alone may carry it and there is none; dropped (device
--   rate) of a copy that is too fast: its sender was answered before
-- invariant: index, frames, status and the bridge timer change together; a message id is taken once,
--   and pays once; a status without an end is that of a message that has not ended
local timers, outbox = unpack(keys, 1, 2)
local cap, ack_timeout, retention = unpack(args, 1, 3)
local due = {}

local function accept(key, more, message, device, project, proof, now, expires, collapse, frame,
  digest, label, rate, burst, bridge, part, unfit)
  local mailbox, status = keys[key], keys[key + 3]
  local idempotency = more == '2' and keys[key + 4]
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
  if call('HSETNX', status, 'i', project .. '|' .. device .. '|' .. now .. '|' .. expires .. '|0|'
    .. seq .. '|' .. collapse) == 0 then
    local _, _, _, _, _, taken = split_head(call('HGET', status, 'i'))
    if call('HEXISTS', status, 'e:dropped') == 1 then return {tonumber(taken)} end
    return {tonumber(taken), shard, epoch}
  end
  if label ~= '' then call('HSET', status, 'l', label) end
  if paid then call('HSET', mailbox, 'rt', paid) end
  if is_copy and string.sub(proof, 1, 2) == 'u:' then
    call('HSET', status, 'u', string.sub(proof, 3))
  end
  if idempotency then
    call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)
  end
  emit(outbox, project, message, device, 'accepted', now, '0', '0', '')
  local c = {mailbox = mailbox, index = keys[key + 1], frames = keys[key + 2], timers = timers,
    outbox = outbox, project = project, device = device, now = now, retention = retention,
    due = due}
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
end

local out, key, at = {}, 3, 4
while at <= #args do
  local more = args[at + 8]
  local ended, answer
  if more == '0' then
    ended, answer = pcall(accept, key, more, args[at], args[at + 1], args[at + 2], args[at + 3],
      args[at + 4], args[at + 5], args[at + 6], args[at + 7], '', '', '0', '0', '', '', '')
    key, at = key + 4, at + 9
  else
    ended, answer = pcall(accept, key, more, args[at], args[at + 1], args[at + 2], args[at + 3],
      args[at + 4], args[at + 5], args[at + 6], args[at + 7], unpack(args, at + 9, at + 15))
    key, at = key + (more == '2' and 5 or 4), at + 16
  end
  out[#out + 1] = ended and answer or failure(answer)
end
set_timers(timers, due)
return out
