-- Withdraw a message from its topic.
-- KEYS: outbox status
-- ARGV: message project now retention
-- returns: {status hash as it is then, target, seq, shard…}, the seq 0 where the log does not hold
--   it; nil where the project has no such message
-- events: cancelled
-- invariant: a message that ended stays as it ended; whoever got it keeps it
-- FLAGS: allow-oom
local outbox, status = unpack(keys)
local message, project, now, retention = unpack(args)
local owner, target, _, expires, _, seq = split_head(call('HGET', status, 'i') or '')
if owner ~= project then return nil end
-- What has expired may still stand in the log.
local over = tonumber(expires) <= tonumber(now)
local log = string.match(outbox, '^{.-}') .. ':topic:' .. project .. ':'
  .. string.match(target, '([^/]*)$')
local held = not over and seq ~= '0' and call('XDEL', log, seq .. '-0') == 1
if held then
  close({outbox = outbox, project = project, device = '', now = now, retention = retention},
    status, message, 'cancelled', '')
end
local out = {call('HGETALL', status), target, held and tonumber(seq) or 0}
return live_shards(log .. ':shards', store_clock(), out)
