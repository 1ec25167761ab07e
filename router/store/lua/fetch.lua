-- Read the next window of a session's mailbox.
-- KEYS: mailbox index frames timers outbox
-- ARGV: device epoch after now limit retention
-- returns: {head, more, drops, (member, seq, frame)…}; nil for a stale epoch or no device
-- events: expired of messages met on the way
-- invariant: what is returned is pending, due and in order of seq
-- FLAGS: allow-oom
local mailbox, index, frames, timers, outbox = unpack(keys)
local device, epoch, after, now, limit, retention = unpack(args)
local known = call('HMGET', mailbox, 'p', 'ep', 'seq', 'dr', 'nk')
if not known[1] or known[2] ~= epoch then return nil end
local c = {mailbox = mailbox, index = index, frames = frames, timers = timers, outbox = outbox,
  project = known[1], device = device, now = now, retention = retention}
local out = {tonumber(known[3]) or 0, 0, tonumber(known[4]) or 0}
out[2] = read_window(c, after, limit, known[5], out)
return out
