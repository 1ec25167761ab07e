-- End subscriptions of a device.
-- KEYS: mailbox timers members…
-- ARGV: device project nonce epoch remind (topic)…
-- returns: as subscribe
-- events: none
-- invariant: as subscribe
-- FLAGS: allow-oom
local mailbox, timers = keys[1], keys[2]
local device, project, nonce, epoch, remind = unpack(args, 1, 5)
local known = call('HMGET', mailbox, 'p', 'n', 'ep', 'sh', 'tc', 'br')
if not known[1] or (nonce ~= '' and known[2] ~= nonce) then return {-1} end
if known[1] ~= project then return {-2} end
if epoch ~= '' and known[3] ~= epoch then return {-1} end
local gone = 0
for at = 6, #args do
  gone = gone + call('HDEL', mailbox, 't:' .. args[at])
  call('SREM', keys[3 + at - 6], device)
  if known[6] then
    call('SREM', string.match(mailbox, '^{.-}') .. ':bridged:' .. project .. ':' .. args[at], device)
  end
end
if gone > 0 then
  local left = tonumber(known[5]) - gone
  if left > 0 then call('HSET', mailbox, 'tc', left) else call('HDEL', mailbox, 'tc') end
end
if not known[4] then return {gone} end
if gone > 0 and remind ~= '0' then remind_of(mailbox, timers, device, remind) end
return {gone, known[4], tonumber(known[3])}
