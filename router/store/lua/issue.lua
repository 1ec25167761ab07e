-- Publish a scheduled message that is due.
-- KEYS: log state collapse shards timers outbox status
-- ARGV: message now retention
-- returns: {seq, previous, expires, receipts, collapse key, frame, selection, shard…}, the time of
--   publishing as `expires` for a TTL of 0; nil where nothing was published
-- events: accepted, or expired; collapsed, dropped (log full) of others
-- invariant: removing the issue timer is what permits it, so it happens once
local log, state, collapse, shards, timers, outbox, status = unpack(keys)
local message, now, retention = unpack(args)
if call('ZREM', timers, 'issue:' .. message) == 0 then return nil end
local kept = call('HMGET', status, 'i', 'f', 'r', 's', 'bb', 'bp')
if not kept[1] or not kept[2] then return nil end
local frame, receipts, selection = kept[2], kept[3], kept[4] or ''
local project, target, created, expires, send_at, _, key = split_head(kept[1])
call('HDEL', status, 'f', 'bb', 'bp')
local c = {timers = timers, outbox = outbox, project = project, now = now, retention = retention}
local once = created == expires
if not once and tonumber(expires) <= tonumber(now) then
  close_topic(c, message, target, receipts, 'expired', '')
  return nil
end
emit(outbox, project, message, whole(target, receipts), 'accepted', now, '0', '0', '')
call('ZADD', timers, once and now or expires, 'lapse:' .. message)
local seq, previous, bridge = 0, 0, kept[5] or ''
if not once and not is_only(bridge) then
  seq, previous = publish_to(log, state, collapse, c, {message = message, key = key,
    target = target, receipts = receipts, frame = frame, selection = selection, expires = expires})
end
call('HSET', status, 'e:accepted', now, 'i', project .. '|' .. target .. '|' .. created .. '|'
  .. expires .. '|' .. send_at .. '|' .. seq .. '|' .. key)
plan_walk(log, timers, status, message, now, bridge, kept[6] or '', frame, seq)
local out = {seq, previous, once and tonumber(now) or tonumber(expires), receipts, key, frame,
  selection}
if is_only(bridge) then return out end
return live_shards(shards, store_clock(), out)
