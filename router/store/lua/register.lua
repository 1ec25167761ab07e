-- Register a device.
-- KEYS: mailbox index timers
-- ARGV: device project nonce hash now stale (field value)…
-- returns: 1, or 0 where the id is taken
-- events: none
-- invariant: epochs of a later registration are higher, so nothing of an earlier one fits; who has a
--   bridge has a timer that ends it, unless it is registered again before
local mailbox, index, timers = unpack(keys)
local device, project, nonce, hash, now, stale = unpack(args, 1, 6)
local known = call('HMGET', mailbox, 'p', 'n', 'h')
if known[1] then
  if known[2] == nonce and known[3] == hash then return 1 end
  return 0
end
if call('EXISTS', index) == 1 then return 0 end
-- The fields that every message needs come first: a small hash is searched from its front.
call('HSET', mailbox, 'p', project, 'n', nonce, 'seq', '0', 'ep', now, 'h', hash, 'ca', now,
  unpack(args, 7))
if stale ~= '0' then
  call('ZADD', timers, stale, 'stale:' .. device)
  reach(mailbox, timers, project, device, {'*'})
end
-- What is published from now on has a seq of at least the store's clock; `ca` must not be beyond it.
local clock = store_clock()
if tonumber(now) > clock then call('HSET', mailbox, 'bc', clock - 1) end
return 1
