-- Note that nobody but its holder has an address any more.
-- KEYS: address
-- ARGV: device
-- returns: 1, or 0 where somebody else claimed it since
-- events: none
-- invariant: only the newest holder settles
-- FLAGS: allow-oom
local known = call('GET', keys[1])
if not known or string.match(known, '^%S+') ~= args[1] then return 0 end
call('SET', keys[1], args[1], 'KEEPTTL')
return 1
