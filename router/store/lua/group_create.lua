-- Make a group without members.
-- KEYS: members
-- ARGV: now
-- returns: 1, or 0 where the group exists; 1 again for the same `now`
-- events: none
-- invariant: a group exists as long as its field `#`, which tells when it was made
if call('HSETNX', keys[1], '#', args[1]) == 1 then return 1 end
return call('HGET', keys[1], '#') == args[1] and 1 or 0
