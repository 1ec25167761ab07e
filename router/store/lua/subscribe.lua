-- Subscribe a device to topics: to all of them or to none.
-- KEYS: mailbox timers members…
-- ARGV: device project nonce epoch limit remind (topic cursor)…
-- returns: {changed, shard, epoch}, {changed} without a route, {-1} unregistered or the session is
--   over, {-2} of another project, {-3} too many topics
-- events: none
-- invariant: cursors, their count and the members change together; a subscription that stands keeps
--   its cursor; where somebody else than the session changes it, a timer comes back until it knows
local mailbox, timers = keys[1], keys[2]
local device, project, nonce, epoch, limit, remind = unpack(args, 1, 6)
local known = call('HMGET', mailbox, 'p', 'n', 'ep', 'sh', 'tc', 'br')
if not known[1] or (nonce ~= '' and known[2] ~= nonce) then return {-1} end
if known[1] ~= project then return {-2} end
if epoch ~= '' and known[3] ~= epoch then return {-1} end
local fresh = {}
for at = 7, #args, 2 do
  if call('HEXISTS', mailbox, 't:' .. args[at]) == 0 then fresh[#fresh + 1] = at end
end
local total = (tonumber(known[5]) or 0) + #fresh
if #fresh > 0 then
  if total > tonumber(limit) then return {-3} end
  for _, at in ipairs(fresh) do
    call('HSET', mailbox, 't:' .. args[at], args[at + 1])
    call('SADD', keys[3 + (at - 7) / 2], device)
  end
  call('HSET', mailbox, 'tc', total)
  if known[6] then
    local topics = {}
    for at, place in ipairs(fresh) do topics[at] = args[place] end
    reach(mailbox, timers, project, device, topics)
  end
end
if not known[4] then return {#fresh} end
if #fresh > 0 and remind ~= '0' then remind_of(mailbox, timers, device, remind) end
return {#fresh, known[4], tonumber(known[3])}
