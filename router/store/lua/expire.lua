-- End the messages of a mailbox whose time is over; one window a call. A mailbox without a
-- registration loses everything it holds: so an unregister that was cut short is finished.
-- KEYS: mailbox index frames timers outbox
-- ARGV: device now retention
-- returns: when the next call is due (now, where the mailbox goes on), nil where it is empty
-- events: expired; dropped (unregistered)
-- invariant: the expire timer stands as long as a message does
-- FLAGS: allow-oom
local mailbox, index, frames, timers, outbox = unpack(keys)
local device, now, retention = unpack(args)
local name = 'expire:' .. device
local known = call('HMGET', mailbox, 'p', 'xc', 'xm')
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = known[1], device = device, now = now, retention = retention}
local from = known[2] and '(' .. known[2] or '-inf'
local found = call('ZRANGE', index, from, '+inf', 'BYSCORE', 'LIMIT', 0, WINDOW, 'WITHSCORES')
local earliest = tonumber(known[3])
for at = 1, #found, 2 do
  local member, seq = found[at], found[at + 1]
  if not known[1] then
    local message = string.match(member, '^[^|]+')
    c.project = split_head(call('HGET', status_key(outbox, message), 'i') or '') or ''
    finish(c, member, seq, 'dropped', 'unregistered')
  else
    local expires = tonumber(string.match(member, '|(%d+)|'))
    if expires <= tonumber(now) then
      finish(c, member, seq, 'expired', '')
    elseif not earliest or expires < earliest then
      earliest = expires
    end
  end
end
if #found == 2 * WINDOW then
  if known[1] then
    call('HSET', mailbox, 'xc', found[#found])
    if earliest then call('HSET', mailbox, 'xm', earliest) end
  end
  return tonumber(now)
end
if known[2] then call('HDEL', mailbox, 'xc', 'xm') end
if call('ZCARD', index) == 0 then
  if not known[1] then call('UNLINK', frames) end
  settle(c)
  return nil
end
call('ZADD', timers, earliest, name)
return earliest
