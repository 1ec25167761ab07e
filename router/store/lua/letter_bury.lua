-- Keep a dead letter of what has no lane.
-- KEYS: dead letters
-- ARGV: id now letter bound retention
-- returns: how many older ones gave way
-- events: none
-- invariant: both keys name the same dead letters; one with the same id takes the place of it. They
--   are gone when the youngest is too old, whether or not somebody still trims them
-- FLAGS: allow-oom
local dead, letters = unpack(keys)
local id, now, letter, bound, retention = unpack(args)
call('ZADD', dead, now, id)
call('HSET', letters, id, letter)
call('PEXPIRE', dead, retention)
call('PEXPIRE', letters, retention)
return trim_letters(dead, letters, now, bound, retention)
