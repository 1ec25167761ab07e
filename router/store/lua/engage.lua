-- Note what the user did with a message.
-- KEYS: outbox status
-- ARGV: device message event at detail now
-- returns: 1 the first time, otherwise 0
-- events: displayed, opened, clicked, dismissed, each once; sent before it, where that was not told
--   and no bridge carried the message
-- invariant: the message was this device's, and waits for its ack or was delivered
-- FLAGS: allow-oom
local outbox, status = unpack(keys)
local device, message, event, at, detail, now = unpack(args)
local known = call('HMGET', status, 'i', 'e:sent', 'e:delivered', 'e:expired', 'e:collapsed',
  'e:dropped', 'e:cancelled', 'e:bridged', 'e:accepted')
local project, owner, _, _, send_at = split_head(known[1] or '')
if owner ~= device or (send_at ~= '0' and not known[9]) then return 0 end
for ended = 4, 7 do if known[ended] then return 0 end end
local value = at
if detail ~= '' then value = at .. '|' .. detail end
if call('HSETNX', status, 'e:' .. event, value) == 0 then return 0 end
if not known[2] and not known[3] and not known[8] then
  call('HSET', status, 'e:sent', now, 'at', '1')
  emit(outbox, project, message, device, 'sent', now, '0', '0', '')
end
emit(outbox, project, message, device, event, at, '0', '0', detail)
return 1
