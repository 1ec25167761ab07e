-- Take tokens from all of some buckets: as many as the emptiest of them has.
-- KEYS: bucket…
-- ARGV: most (rate burst)…
-- returns: {taken, (left, microseconds until one more)…}
-- events: none
-- invariant: what all callers ever took of a bucket is no more than its burst and what its rate gave
--   since; a repeat takes again, so it never gives more
local now = clock_us()
local most = tonumber(args[1])
for at = 1, #keys do
  local granted = charge(call('GET', keys[at]), now, args[2 * at], args[2 * at + 1], most)
  most = math.min(most, granted)
end
local out = {most}
for at = 1, #keys do
  local kept = call('GET', keys[at])
  local _, full, left, wait = charge(kept, now, args[2 * at], args[2 * at + 1], most)
  if most > 0 or is_beyond(kept, full) then
    call('SET', keys[at], number(full), 'PX', math.ceil((full - now) / 1000) + 1)
  end
  out[#out + 1] = left
  out[#out + 1] = math.ceil(wait)
end
return out
