-- Have a message to a topic handed to the bridges of some devices of one partition.
-- KEYS: timers mark
-- ARGV: message project topic seq created expires policy receipts now settle (device)…
-- returns: {so many it is handed to, jobs that wait in the queue of the last one's bridge}
-- events: none
-- invariant: a device is looked at once, in the step that sets its timer: a walk that is done again
--   gives nobody a second job; who has acked, unsubscribed or lost its bridge gets none
local timers, mark = unpack(keys)
local message, project, topic, seq, created, expires, policy, receipts, now, settle =
  unpack(args, 1, 10)
local tag, handed, bridge = string.match(timers, '^{.-}'), 0
local keep = math.max(expires - now, 0) + TOPIC_KEEP_MS
for at = 11, #args do
  local device = args[at]
  if call('SADD', mark, device) == 1 then
    local mailbox = tag .. ':d:' .. device
    local known = call('HMGET', mailbox, 'br', 'sh')
    local due = tonumber(now)
    if known[2] and not is_only(policy) then
      -- Its acks are noted after a while; now or never is over by then.
      due = seq ~= '0' and now + math.max(settle, string.match(policy, '|(%d+)$'))
    end
    if known[1] and due and is_unread(mailbox, project, topic, seq) then
      handed, bridge = handed + 1, string.match(known[1], '^[^|]*')
      local copy = message .. '.' .. device
      local status = tag .. ':msg:' .. copy
      call('HSET', status, 'i', project .. '|' .. device .. '|' .. created .. '|' .. expires .. '|0|'
        .. seq .. '|' .. topic, 'bb', policy, 'r', receipts)
      call('PEXPIRE', status, keep)
      call('ZADD', timers, due, 'bridge:' .. copy)
    end
  end
end
call('PEXPIRE', mark, keep)
local queue = tag .. ':bridge:' .. project .. ':' .. (bridge or '')
return {handed, bridge and call('ZCARD', queue) or 0}
