-- Note how far a walk has come; it ends where that is nowhere.
-- KEYS: status timers
-- ARGV: message place
-- returns: 1, or 0 where the message is not known any more
-- events: none
-- invariant: the timer stands until all devices were walked over
-- FLAGS: allow-oom
local status, timers = unpack(keys)
local message, place = unpack(args)
if place == '' or call('EXISTS', status) == 0 then
  call('ZREM', timers, 'walk:' .. message)
  call('HDEL', status, 'bw')
  return place == '' and 1 or 0
end
call('HSET', status, 'bw', place)
return 1
