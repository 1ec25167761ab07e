-- Add up what devices did with a message of a topic.
-- KEYS: status
-- ARGV: project now (event number)…
-- returns: 1, or 0 where the project has no such message (any more)
-- events: none
-- invariant: the first time of each event stands beside its number
-- FLAGS: allow-oom
local project, now = unpack(args, 1, 2)
local status = keys[1]
if split_head(call('HGET', status, 'i') or '') ~= project then return 0 end
for at = 3, #args, 2 do
  call('HINCRBY', status, 'n:' .. args[at], args[at + 1])
  call('HSETNX', status, 'e:' .. args[at], now)
end
return 1
