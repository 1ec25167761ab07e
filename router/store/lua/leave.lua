-- Drop the messages to users that a mailbox holds and whose user the device is not (any more).
-- KEYS: mailbox index frames timers outbox
-- ARGV: device after now retention
-- returns: the seq behind which the next call goes on; nil where nothing is left
-- events: dropped (user changed)
-- invariant: what was sent to a user stays with the user; messages to the token and to groups stay
-- FLAGS: allow-oom
local mailbox, index, frames, timers, outbox = unpack(keys)
local device, after, now, retention = unpack(args)
local known = call('HMGET', mailbox, 'p', 'u')
if not known[1] then return nil end
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = known[1], device = device, now = now, retention = retention}
local found = call('ZRANGE', index, '(' .. after, '+inf', 'BYSCORE', 'LIMIT', 0, WINDOW,
  'WITHSCORES')
for at = 1, #found, 2 do
  local message = string.match(found[at], '^[^|]+')
  if #message > MESSAGE_CHARACTERS then
    local user = call('HGET', status_key(outbox, message), 'u')
    if user and user ~= (known[2] or '') then
      finish(c, found[at], found[at + 1], 'dropped', 'user changed')
    end
  end
end
if #found == 2 * WINDOW then return found[#found] end
settle(c)
return nil
