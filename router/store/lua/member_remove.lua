-- Take a device that is no member any more out of the list of a user or a group.
-- KEYS: members
-- ARGV: device stamp
-- returns: 1, or 0 where the entry is another one by now
-- events: none
-- invariant: an entry that was made after the caller had looked stays
-- FLAGS: allow-oom
if call('HGET', keys[1], args[1]) ~= args[2] then return 0 end
return call('HDEL', keys[1], args[1])
