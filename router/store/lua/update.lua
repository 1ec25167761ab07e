-- Change fields of a registration.
-- KEYS: mailbox timers
-- ARGV: device project remind stale (field value)…
-- returns: {1, shard, epoch}, {1} without a route, {0} where the project has no such device
-- events: none
-- invariant: nothing but an existing registration of the project changes; where a session has to
--   know of it (`remind` is not 0), a timer comes back until it does; a bridge goes where `stale` is
--   0, and ends then where it is a time
local mailbox, timers = keys[1], keys[2]
local device, project, remind, stale = unpack(args, 1, 4)
local known = call('HMGET', mailbox, 'p', 'sh', 'ep', 'tc')
if known[1] ~= project then return {0} end
if #args > 4 then call('HSET', mailbox, unpack(args, 5)) end
if stale == '0' then
  call('HDEL', mailbox, 'br')
  unreach(mailbox, timers, project, device, reached_topics(mailbox, known[4]))
elseif stale ~= '' then
  call('ZADD', timers, stale, 'stale:' .. device)
  reach(mailbox, timers, project, device, reached_topics(mailbox, known[4]))
end
if not known[2] then return {1} end
if remind ~= '0' then remind_of(mailbox, timers, device, remind) end
return {1, known[2], tonumber(known[3])}
