-- Change fields of a registration.
-- KEYS: mailbox
-- ARGV: project (field value)…
-- returns: {1, shard, epoch}, {1} without a route, {0} where the project has no such device
-- events: none
-- invariant: nothing but an existing registration of the project changes
local known = call('HMGET', keys[1], 'p', 'sh', 'ep')
if known[1] ~= args[1] then return {0} end
if #args > 1 then call('HSET', keys[1], unpack(args, 2)) end
if known[2] then return {1, known[2], tonumber(known[3])} end
return {1}
