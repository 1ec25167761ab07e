-- Begin a session: a new epoch, and the first window.
-- KEYS: mailbox index frames timers outbox
-- ARGV: device hash shard now limit ack_timeout retention app_version
-- returns: {epoch, project, nonce, pending, displaced shard, displaced epoch, drops known,
--   profile and topics as `subscriptions`, head, more, drops, (member, seq, frame)…}, {0}
--   unregistered, {-1} wrong credential, {-2} overtaken
-- events: expired of messages met on the way
-- invariant: epochs only grow; the route is the session's whose attach was begun last, not the one
--   whose attach was carried out last: a slow shard's may come when its socket is long gone
-- FLAGS: allow-oom
-- Beyond it the clocks of two shards disagree, and a device must not be locked out by that.
local LATE_MS = 60000
local mailbox, index, frames, timers, outbox = unpack(keys)
local device, hash, shard, now, limit, ack_timeout, retention, app_version = unpack(args)
local known = call('HMGET', mailbox, 'p', 'h', 'n', 'ep', 'sh', 'seq', 'dr', 'nk', 'aa', 'dk',
  'tc', unpack(PROFILE))
if not known[1] then return {0} end
if known[2] ~= hash then return {-1} end
local late = (tonumber(known[9]) or 0) - tonumber(now)
if late > 0 and late <= LATE_MS then return {-2} end
local epoch = tonumber(known[4]) + 1
call('HSET', mailbox, 'ep', epoch, 'sh', shard, 'sa', now, 'aa', now)
local profile = profile_of(known, 12)
if app_version ~= '' and app_version ~= profile[3] then
  call('HSET', mailbox, 'av', app_version)
  profile[3] = app_version
end
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = known[1], device = device, now = now, retention = retention}
local out = {epoch, known[1], known[3], 0, known[5] or '', tonumber(known[4]),
  tonumber(known[10]) or 0, profile, topics_of(mailbox, known[11]), tonumber(known[6]) or 0, 0,
  tonumber(known[7]) or 0}
if known[5] or known[11] then call('ZREM', timers, 'topics:' .. device) end
out[11] = read_window(c, '0', limit, known[8], out)
out[4] = call('ZCARD', index)
if out[4] > 0 then call('ZADD', timers, 'LT', now + ack_timeout, 'redeliver:' .. device) end
return out
