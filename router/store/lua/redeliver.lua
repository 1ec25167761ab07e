-- Say whom to wake because unacked messages wait.
-- KEYS: mailbox index frames timers
-- ARGV: device now ack_timeout
-- returns: {shard, epoch}, or nil where nothing is due there
-- events: none
-- invariant: a connected device with pending messages has a redeliver timer
-- FLAGS: allow-oom
local mailbox, index, frames, timers = unpack(keys)
local device, now, ack_timeout = unpack(args)
local name = 'redeliver:' .. device
local known = call('HMGET', mailbox, 'sh', 'ep', 'nk')
local pending = call('ZRANGE', index, 0, WINDOW - 1, 'WITHSCORES')
if not known[1] or #pending == 0 then
  call('ZREM', timers, name)
  return nil
end
local due_again, any_due = now + ack_timeout, true
if known[3] and tonumber(known[3]) > tonumber(now) then
  any_due = #pending == 2 * WINDOW
  for at = 2, #pending, 2 do
    local not_before = tonumber(call('HGET', frames, 'n:' .. pending[at]) or 0)
    if not_before > tonumber(now) then
      due_again = math.min(due_again, not_before)
    else
      any_due = true
    end
  end
end
call('ZADD', timers, due_again, name)
if any_due then return {known[1], tonumber(known[2])} end
return nil
