-- Take a message from a device to its app server.
-- KEYS: mailbox outbox seen
-- ARGV: device epoch id data now retention
-- returns: 1, or 0 for a stale epoch
-- events: upstream
-- invariant: one entry for each id of the device within the retention
local mailbox, outbox, seen = unpack(keys)
local device, epoch, id, data, now, retention = unpack(args)
local known = call('HMGET', mailbox, 'p', 'ep')
if not known[1] or known[2] ~= epoch then return 0 end
if call('SET', seen, '1', 'NX', 'PX', retention) then
  append(outbox, 'r',
    known[1] .. '||' .. device .. '|upstream|' .. now .. '|0|0|' .. id, 'x', data)
end
return 1
