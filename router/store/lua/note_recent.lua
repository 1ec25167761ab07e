-- Note messages of one project that were accepted, so that they can be listed.
-- KEYS: recent
-- ARGV: bound keep (score member)…
-- returns: how many were new
-- events: none
-- invariant: a message stands here once; at most `bound` and an eighth do, the newest; what nobody
--   adds to ends
-- FLAGS: allow-oom
local recent = keys[1]
local bound, keep = unpack(args, 1, 2)
local new = call('ZADD', recent, unpack(args, 3))
if new > 0 then
  if call('ZCARD', recent) > bound * 1.125 then call('ZREMRANGEBYRANK', recent, bound, -1) end
  call('PEXPIRE', recent, keep)
end
return new
