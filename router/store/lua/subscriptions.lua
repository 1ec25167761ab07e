-- Tell a session its device's topics and profile anew.
-- KEYS: mailbox timers
-- ARGV: device epoch
-- returns: {{broadcast cursor, platform, app version, language, region, attributes}, {topic,
--   cursor…}}; nil for a stale epoch or no device
-- events: none
-- invariant: the session knows what stands here, so the timer that would remind it goes
-- FLAGS: allow-oom
local mailbox, timers = unpack(keys)
local device, epoch = unpack(args)
local known = call('HMGET', mailbox, 'ep', 'tc', unpack(PROFILE))
if known[1] ~= epoch then return nil end
call('ZREM', timers, 'topics:' .. device)
return {profile_of(known, 3), topics_of(mailbox, known[2])}
