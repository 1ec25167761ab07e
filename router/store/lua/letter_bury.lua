-- Keep a dead letter of what has no lane.
-- KEYS: dead letters
-- ARGV: id now letter bound retention
-- returns: how many older ones gave way
-- events: none
-- invariant: both keys name the same dead letters; one with the same id takes the place of it
-- FLAGS: allow-oom
local dead, letters = unpack(keys)
local id, now, letter, bound, retention = unpack(args)
call('ZADD', dead, now, id)
call('HSET', letters, id, letter)
return trim_letters(dead, letters, now, bound, retention)
