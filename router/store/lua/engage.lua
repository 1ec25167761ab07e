-- Note what the user did with a message.
-- KEYS: outbox status
-- ARGV: device message event at detail
-- returns: 1 the first time, otherwise 0
-- events: displayed, opened, clicked, dismissed; each once
-- invariant: the message was this device's
-- FLAGS: allow-oom
local outbox, status = unpack(keys)
local device, message, event, at, detail = unpack(args)
local project, owner = split_head(call('HGET', status, 'i') or '')
if owner ~= device then return 0 end
local value = at
if detail ~= '' then value = at .. '|' .. detail end
if call('HSETNX', status, 'e:' .. event, value) == 0 then return 0 end
emit(outbox, project, message, device, event, at, '0', '0', detail)
return 1
