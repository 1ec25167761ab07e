-- Accept a message for the subscribers of a topic, or for all of a project: it is stored once.
-- KEYS: log state collapse shards timers outbox status [idempotency]
-- ARGV: message target project now expires key receipts frame selection retention digest label rate burst bridge part
-- returns: {seq, previous, shard…}, seq 0 for a TTL of 0 and where a bridge alone may carry it; {-3} idempotency key used for another
--   request, {-4, first message} repeated, {-5, microseconds} too fast for its topic
-- events: accepted; collapsed of the message that had the collapse key; dropped (log full) of the
--   oldest
-- invariant: log and status change together; seqs of a topic only grow, even where its log had ended
--   or a crash of the store took its last second, as they are no less than the store's clock
local log, state, collapse, shards, timers, outbox, status, idempotency = unpack(keys)
local message, target, project, now, expires, key, receipts, frame, selection, retention, digest,
  label, rate, burst, bridge, part = unpack(args)
local answer = idempotency and answer_before(idempotency, digest, message)
if answer then return answer end
local known = call('HGET', status, 'i')
if known then
  local _, _, _, _, _, taken = split_head(known)
  if is_only(bridge) then return {0, 0} end
  -- Who has all before it needs no more; who does not reads the log.
  return live_shards(shards, store_clock(), {tonumber(taken), math.max(tonumber(taken) - 1, 0)})
end
local wait = pay_topic(state, status, rate, burst)
if wait then return {-5, wait} end
local c = {timers = timers, outbox = outbox, project = project, now = now, retention = retention}
emit(outbox, project, message, whole(target, receipts), 'accepted', now, '0', '0', '')
call('ZADD', timers, expires, 'lapse:' .. message)
local seq, previous = 0, 0
if expires ~= now and not is_only(bridge) then
  seq, previous = publish_to(log, state, collapse, c, {message = message, key = key,
    target = target, receipts = receipts, frame = frame, selection = selection, expires = expires})
end
call('HSET', status, 'i', project .. '|' .. target .. '|' .. now .. '|' .. expires .. '|0|' .. seq
  .. '|' .. key, 'r', receipts)
if selection ~= '' then call('HSET', status, 's', selection) end
plan_walk(log, timers, status, message, now, bridge, part, frame, seq)
if label ~= '' then call('HSET', status, 'l', label) end
call('PEXPIRE', status, expires - now + retention)
if idempotency then
  call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)
end
if is_only(bridge) then return {seq, previous} end
return live_shards(shards, store_clock(), {seq, previous})
