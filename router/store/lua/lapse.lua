-- End a message whose time is over and that no mailbox holds: one with a TTL of 0 that was not
-- acked, one that a bridge alone may carry, or one to a topic.
-- KEYS: timers outbox status
-- ARGV: message now retention
-- returns: 1, or 0 where it had ended
-- events: expired, unless its bridge had failed: then that was its end
-- invariant: removing the lapse timer is what permits it, so it ends once
-- FLAGS: allow-oom
local timers, outbox, status = unpack(keys)
local message, now, retention = unpack(args)
if call('ZREM', timers, 'lapse:' .. message) == 0 then return 0 end
local known = call('HMGET', status, 'i', 'r', 'bb')
local project, device, created, expires, _, seq = split_head(known[1] or '')
if not project then return 0 end
local c = {timers = timers, outbox = outbox, project = project, device = device, now = now,
  retention = retention}
if string.sub(device, 1, 1) == '/' then
  if seq ~= '0' then call('XDEL', topic_log(outbox, project, device), seq .. '-0') end
  -- One with a TTL of 0 ends before its walk: bridges have a moment still.
  if known[3] and created ~= expires then call('HDEL', status, 'f', 'bb', 'bp', 'bw') end
  close_topic(c, message, device, known[2], 'expired', '')
else
  end_unheld(c, status, message, 'expired',
    is_only(known[3] or '') and 'not bridged' or 'not acked')
end
return 1
