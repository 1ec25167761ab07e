-- Accept a message for the subscribers of a topic: it is stored once.
-- KEYS: log state collapse shards timers outbox status [idempotency]
-- ARGV: message target project now expires key receipts frame retention digest label rate burst
-- returns: {seq, previous, shard…}, seq 0 for a TTL of 0; {-3} idempotency key used for another
--   request, {-4, first message} repeated, {-5, microseconds} too fast for its topic
-- events: accepted; collapsed of the message that had the collapse key; dropped (log full) of the
--   oldest
-- invariant: log and status change together; seqs of a topic only grow, even where its log had ended
--   or a crash of the store took its last second, as they are no less than the store's clock
local log, state, collapse, shards, timers, outbox, status, idempotency = unpack(keys)
local message, target, project, now, expires, key, receipts, frame, retention, digest, label, rate,
  burst = unpack(args)
local answer = idempotency and answer_before(idempotency, digest, message)
if answer then return answer end
local clock = store_clock()
local known = call('HMGET', state, 'seq', 'ttl', 'end', 'rt')
local paid, wait = pay(known[4], status, rate, burst)
if wait then return {-5, wait} end
local previous, seq = tonumber(known[1]) or 0, 0
if expires ~= now then seq = math.max(previous + 1, clock) end
local head = project .. '|' .. target .. '|' .. now .. '|' .. expires .. '|0|' .. seq .. '|' .. key
if call('HSETNX', status, 'i', head) == 0 then
  local _, _, _, _, _, taken = split_head(call('HGET', status, 'i'))
  -- Who has all before it needs no more; who does not reads the log.
  return live_shards(shards, clock, {tonumber(taken), math.max(tonumber(taken) - 1, 0)})
end
if paid then
  call('HSET', state, 'rt', paid)
  if not known[3] then call('PEXPIRE', state, TOPIC_KEEP_MS) end
end
call('HSET', status, 'r', receipts)
if label ~= '' then call('HSET', status, 'l', label) end
call('PEXPIRE', status, expires - now + retention)
if idempotency then
  call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)
end
emit(outbox, project, message, whole(target, receipts), 'accepted', now, '0', '0', '')
call('ZADD', timers, expires, 'lapse:' .. message)
if seq == 0 then return live_shards(shards, clock, {0, 0}) end
local c = {timers = timers, outbox = outbox, project = project, now = now, retention = retention}
if key ~= '' then
  local old = call('HGET', collapse, key)
  local entry = old and call('XRANGE', log, old .. '-0', old .. '-0')[1]
  if entry then
    call('XDEL', log, old .. '-0')
    local earlier, asked = string.match(entry[2][2], '^([^|]+)|%d+|(%a)|')
    close_topic(c, earlier, target, asked, 'collapsed', '')
  end
  if call('HLEN', collapse) >= 2 * TOPIC_MAX then call('UNLINK', collapse) end
  call('HSET', collapse, key, seq)
end
local ttl = math.max(expires - now, tonumber(known[2]) or 0)
local last = math.max(tonumber(expires), tonumber(known[3]) or 0)
call('XADD', log, 'MINID', '~', math.max(clock - ttl, 0), seq .. '-0',
  'h', message .. '|' .. expires .. '|' .. receipts .. '|' .. key, 'f', frame)
drop_oldest(log, c, target)
call('HSET', state, 'seq', seq, 'ttl', ttl, 'end', last)
for _, kept in ipairs({log, state, collapse}) do call('PEXPIRE', kept, last - now + TOPIC_KEEP_MS) end
return live_shards(shards, clock, {seq, previous})
