-- Move a scheduled message into its mailbox.
-- KEYS: mailbox index frames timers outbox status
-- ARGV: message now cap ack_timeout retention
-- returns: {seq, device, expires, frame, shard, epoch}, without the last two where there is no
--   route, the time of release as `expires` for a TTL of 0; nil where nothing entered the mailbox
-- events: accepted; or expired, or dropped (unregistered); collapsed, dropped of others; failed as
--   enqueue
-- invariant: removing the send timer is what permits it, so it happens once
local mailbox, index, frames, timers, outbox, status = unpack(keys)
local message, now, cap, ack_timeout, retention = unpack(args)
if call('ZREM', timers, 'send:' .. message) == 0 then return nil end
local kept = call('HMGET', status, 'i', 'f', 'bb', 'bp')
if not kept[1] or not kept[2] then return nil end
local frame = kept[2]
local project, device, created, expires, send_at, _, collapse = split_head(kept[1])
call('HDEL', status, 'f', 'bb', 'bp')
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = project, device = device, now = now, retention = retention}
local known = call('HMGET', mailbox, 'p', 'seq', 'sh', 'ep', 'br')
if known[1] ~= project then
  close(c, status, message, 'dropped', 'unregistered')
  return nil
end
local once = created == expires
if not once and tonumber(expires) <= tonumber(now) then
  close(c, status, message, 'expired', '')
  return nil
end
local shard, epoch, seq = known[3], tonumber(known[4]), 0
local bridge, only = kept[3] or '', is_only(kept[3] or '')
if only then shard = false end
if not once and not only then seq = (tonumber(known[2]) or 0) + 1 end
call('HSET', status, 'e:accepted', now, 'i', project .. '|' .. device .. '|' .. created .. '|'
  .. expires .. '|' .. send_at .. '|' .. seq .. '|' .. collapse)
emit(outbox, project, message, device, 'accepted', now, '0', '0', '')
if seq > 0 then
  put(c, message, seq, expires, collapse, frame, cap, shard and now + ack_timeout)
end
if known[5] and bridge ~= '' then
  bridge_it(c, status, {message = message, seq = seq, expires = expires, once = once,
    frame = frame}, bridge, kept[4] or '', shard, ack_timeout)
elseif seq > 0 then
  -- Nothing more to do.
elseif only then
  close(c, status, message, 'failed', 'no bridge')
  return nil
elseif shard then
  call('ZADD', timers, now + ack_timeout, 'lapse:' .. message)
else
  close(c, status, message, 'expired', 'not connected')
  return nil
end
local until_ms = once and tonumber(now) or tonumber(expires)
if shard then return {seq, device, until_ms, frame, shard, epoch} end
return {seq, device, until_ms, frame}
