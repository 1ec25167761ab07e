-- Set or clear the user of a device.
-- KEYS: mailbox timers
-- ARGV: device project user due
-- returns: {1, the user before}, {0} where the project has no such device
-- events: none
-- invariant: a timer stands until the list of the user has the device, and the mailbox nothing of
--   the user before
local mailbox, timers = unpack(keys)
local device, project, user, due = unpack(args)
local known = call('HMGET', mailbox, 'p', 'u')
if known[1] ~= project then return {0} end
call('HSET', mailbox, 'u', user)
call('ZADD', timers, due, 'bind:' .. device)
return {1, known[2] or ''}
