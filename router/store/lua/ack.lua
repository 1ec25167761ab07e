-- Take acked messages out of mailboxes of one partition.
-- KEYS: timers outbox (mailbox index frames status…)…
-- ARGV: retention (device epoch now drops count (message seq sent)…)…
-- returns: of each device how many messages this call ended
-- events: delivered, preceded by sent (in the same entry) where that was not told before
-- invariant: only the newest epoch acks; a message ends once; the device knows of `drops` messages
--   lost to the pending cap, never of more than there were
-- FLAGS: allow-oom
local timers, outbox = unpack(keys, 1, 2)
local retention = args[1]
local idle = {}

-- Find out whether a message waits that its session did not send, and where.
local function find(device, status, message)
  local _, owner, _, _, _, found = split_head(call('HGET', status, 'i') or '')
  if owner ~= device then return false, '0' end
  if found ~= '0' then return false, found end
  return call('ZREM', timers, 'lapse:' .. message) == 1, '0'
end

local function end_one(project, device, now, bridged, c, status, message, seq, sent)
  local ended = false
  if seq == '0' then ended, seq = find(device, status, message) end
  if seq ~= '0' then ended = take_out(c, message, seq) end
  if not ended then return 0 end
  if bridged then forget_job(timers, status, message) end
  if sent ~= '0' and call('HEXISTS', status, 'e:sent') == 0 then
    call('HSET', status, 'e:sent', sent, 'e:delivered', now, 'at', '1')
  else
    sent = '0'
    call('HSET', status, 'e:delivered', now)
  end
  call('PEXPIRE', status, retention)
  emit(outbox, project, message, device, 'delivered', now, accepted_of(message), sent, '')
  return 1
end

local function end_all(key, at, last, device, epoch, now, drops)
  local mailbox = keys[key]
  local known = call('HMGET', mailbox, 'p', 'ep', 'br', 'seq')
  if not known[1] or known[2] ~= epoch then return 0 end
  if drops ~= '0' then hear_of_drops(mailbox, drops) end
  local c = {index = keys[key + 1], frames = keys[key + 2]}
  local done = 0
  key = key + 3
  for one = at, last, 3 do
    done = done + end_one(known[1], device, now, known[3], c, keys[key], args[one], args[one + 1],
      args[one + 2])
    key = key + 1
  end
  -- Behind the very last message, and nothing stood before it: the mailbox is empty.
  if done > 0 and (c.first == known[4] or call('EXISTS', c.index) == 0) then
    idle[#idle + 1] = 'redeliver:' .. device
    idle[#idle + 1] = 'expire:' .. device
  end
  return done
end

local out, key, at = {}, 3, 2
while at <= #args do
  local messages = args[at + 4]
  local first = at + 5
  local last = first + 3 * messages - 1
  local ended, answer = pcall(end_all, key, first, last, args[at], args[at + 1], args[at + 2],
    args[at + 3])
  out[#out + 1] = ended and answer or failure(answer)
  key, at = key + 3 + messages, last + 1
end
if #idle > 0 then call('ZREM', timers, unpack(idle)) end
return out
