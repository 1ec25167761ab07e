-- Forget a dead letter.
-- KEYS: dead letters
-- ARGV: id died
-- returns: 1, or 0 where there is none, or one that died at another time than `died`, if that is given
-- events: none
-- invariant: both keys name the same dead letters
-- FLAGS: allow-oom
local dead, letters = unpack(keys)
local id, died = unpack(args)
local found = call('ZSCORE', dead, id)
if not found or (died ~= '' and tonumber(found) ~= tonumber(died)) then return 0 end
call('ZREM', dead, id)
call('HDEL', letters, id)
return 1
