-- Take the bridge from a device, where it has this one still.
-- KEYS: mailbox timers outbox
-- ARGV: device br reason now
-- returns: 1, or 0 where the device has none, or another one by now
-- events: unregistered, with `<bridge>|<reason>`, unless there is no reason to tell
-- invariant: an address that was registered since stays; no topic counts the device among those that
--   bridges reach
-- FLAGS: allow-oom
local mailbox, timers, outbox = unpack(keys)
local device, br, reason, now = unpack(args)
local known = call('HMGET', mailbox, 'p', 'br', 'tc')
if not known[1] or known[2] ~= br then return 0 end
call('HDEL', mailbox, 'br')
unreach(mailbox, timers, known[1], device, reached_topics(mailbox, known[3]))
if reason ~= '' then
  emit(outbox, known[1], '', device, 'unregistered', now, '0', '0',
    string.match(br, '^[^|]*') .. '|' .. reason)
end
return 1
