-- Drop dead letters that are too old or too many, a window of each.
-- KEYS: dead letters
-- ARGV: now bound retention
-- returns: how many were dropped
-- events: none
-- invariant: both keys name the same dead letters
-- FLAGS: allow-oom
local dead, letters = unpack(keys)
local now, bound, retention = unpack(args)
return trim_letters(dead, letters, now, bound, retention)
