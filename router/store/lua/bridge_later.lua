-- Have messages tried again later.
-- KEYS: timers status…
-- ARGV: now (message at counts reason)…
-- returns: how many wait
-- events: none
-- invariant: a try is noted once; the last few are kept
-- FLAGS: allow-oom
local timers, now = keys[1], args[1]
local waiting = 0
for at = 2, #args, 4 do
  local message, due, counts, reason = args[at], args[at + 1], args[at + 2], args[at + 3]
  local status = keys[2 + (at - 2) / 4]
  local known = call('HMGET', status, 'i', 'e:bridged', 'bh')
  local project, device, _, _, _, seq, last = split_head(known[1] or '')
  if device and not known[2] and is_waiting(timers, message, project, device, seq, last) then
    waiting = waiting + 1
    local tries = known[3] and cjson.decode(known[3]) or {}
    local last = tries[#tries]
    if not last or last.time ~= tonumber(now) or last.reason ~= reason then
      if counts == '1' then call('HINCRBY', status, 'ba', 1) end
      tries[#tries + 1] = {time = tonumber(now), reason = reason}
      if #tries > TRIES_KEPT then table.remove(tries, 1) end
      call('HSET', status, 'bh', cjson.encode(tries))
    end
    call('ZADD', timers, due, 'bridge:' .. message)
  else
    call('ZREM', timers, 'bridge:' .. message)
  end
end
return waiting
