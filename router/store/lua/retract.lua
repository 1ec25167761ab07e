-- Withdraw a message from its log, or one that is published later.
-- KEYS: timers outbox status
-- ARGV: message project now retention
-- returns: {status hash as it is then, target, seq, shard…}, the seq 0 where the log does not hold
--   it; nil where the project has no such message
-- events: cancelled
-- invariant: a message that ended stays as it ended; whoever got it keeps it
-- FLAGS: allow-oom
local timers, outbox, status = unpack(keys)
local message, project, now, retention = unpack(args)
local known = call('HMGET', status, 'i', 'r', 'bb')
local owner, target, _, expires, _, seq = split_head(known[1] or '')
if owner ~= project then return nil end
local log = topic_log(outbox, project, target)
local c = {timers = timers, outbox = outbox, project = project, now = now, retention = retention}
-- What has expired may still stand in the log.
local over = tonumber(expires) <= tonumber(now)
local held = not over and seq ~= '0' and call('XDEL', log, seq .. '-0') == 1
local alone = not over and seq == '0' and is_only(known[3] or '')
  and call('ZSCORE', timers, 'lapse:' .. message)
if held or alone or call('ZREM', timers, 'issue:' .. message) == 1 then
  call('HDEL', status, 'f', 'bb', 'bp')
  close_topic(c, message, target, known[2], 'cancelled', '')
end
local out = {call('HGETALL', status), target, held and tonumber(seq) or 0}
return live_shards(log .. ':shards', store_clock(), out)
