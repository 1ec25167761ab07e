-- Put a device into the list of a user.
-- KEYS: members
-- ARGV: device stamp limit
-- returns: 1, or 0 where the list is full
-- events: none
-- invariant: no more than `limit` devices, unless it is 0; each entry has a stamp of its own
local device, stamp, limit = unpack(args)
if limit ~= '0' and call('HLEN', keys[1]) >= tonumber(limit)
  and call('HEXISTS', keys[1], device) == 0 then return 0 end
call('HSET', keys[1], device, stamp)
return 1
