-- Tell a session its device's topics anew.
-- KEYS: mailbox timers
-- ARGV: device epoch
-- returns: {topic, cursor…}; nil for a stale epoch or no device
-- events: none
-- invariant: the session knows what stands here, so the timer that would remind it goes
-- FLAGS: allow-oom
local mailbox, timers = unpack(keys)
local device, epoch = unpack(args)
if call('HGET', mailbox, 'ep') ~= epoch then return nil end
call('ZREM', timers, 'topics:' .. device)
return topics_of(mailbox, call('HGET', mailbox, 'tc'))
