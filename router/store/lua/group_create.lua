-- Make a group without members.
-- KEYS: members
-- ARGV: stamp
-- returns: 1, or 0 where the group exists; 1 again for the same stamp
-- events: none
-- invariant: a group exists as long as its field `#`, which holds the stamp
if call('HSETNX', keys[1], '#', args[1]) == 1 then return 1 end
return call('HGET', keys[1], '#') == args[1] and 1 or 0
