-- Shared by the functions that hand messages to bridges, on top of what all functions share.
--
-- Layout:
--   mailbox field br  <bridge>|<registered ms>|<address as JSON>
--   status fields, of a message that a bridge may carry and has not carried yet:
--     bb  <lane>|<after ms>, or <lane>|o where no socket may carry it
--     bp  the bridge part, f the frame where no mailbox holds it
--     ba  attempts that counted, bh the last tries as JSON
--     nc  of a copy that failed, until that is counted: <now>|<reason>
--     bg  where a bridge gave it up: nothing more is tried, unless a sender asks for it
--   queue of jobs     <message as kept>, score <lane> * LANE_MS + <accepted ms>
--   a message to a topic has a copy for each device that a bridge is to reach: a status of its own
--   under <message>.<device>, whose field i has the topic in the place of the collapse key; it is
--   gone when what became of it is counted

local LANE_MS = 10000000000000
local TRIES_KEPT = 5
-- A copy of a message to a topic is remembered so long after a provider took it, or until it is
-- counted: a call whose answer was lost is made again, and is to give the same.
local DONE_MS = 60000
-- So many devices that an address was taken from are remembered until that is done.
local FORMER = 8

local function is_only(policy)
  return string.sub(policy, -1) == 'o'
end

-- Name the bridge of a mailbox where it is one of those that cannot carry a message, unless the
-- message is known: it was taken before.
local function unfit_of(br, unfit, status)
  local name = string.match(br, '^[^|]*')
  if string.find(' ' .. unfit .. ' ', ' ' .. name .. ' ', 1, true)
    and call('EXISTS', status) == 0 then return name end
  return nil
end

-- Keep what bridges need of a message that enters mailboxes later.
local function keep_bridge(status, policy, part)
  if policy == '' then return end
  if part ~= '' then
    call('HSET', status, 'bb', policy, 'bp', part)
  else
    call('HSET', status, 'bb', policy)
  end
end

-- Forget the job of a message that was acked.
local function forget_job(timers, status, message)
  call('ZREM', timers, 'bridge:' .. message)
  call('HDEL', status, 'bb', 'bp', 'f', 'bg')
end

-- Have a message handed to the bridge of its device, unless it is acked before; one that no mailbox
-- holds lapses. `once` is a TTL of 0.
local function bridge_it(c, status, m, policy, part, shard, ack_timeout)
  local now, at = tonumber(c.now), tonumber(c.now)
  if shard then at = now + string.match(policy, '|(%d+)$') end
  if m.seq == 0 then
    local ends = m.once and now + ack_timeout or tonumber(m.expires)
    call('ZADD', c.timers, ends, 'lapse:' .. m.message)
    if at >= ends then return end
    call('HSET', status, 'f', m.frame)
  end
  keep_bridge(status, policy, part)
  call('ZADD', c.timers, at, 'bridge:' .. m.message)
end

local function is_topic_copy(message)
  local first = string.byte(message)
  return first >= 52 and first <= 55
end

-- Tell whether a device has not acked so far what has this seq in a log, and gets it at all.
local function is_unread(mailbox, project, topic, seq)
  local known = call('HMGET', mailbox, 'p', topic == '*' and 'bc' or 't:' .. topic, 'ca')
  if known[1] ~= project then return false end
  local cursor = tonumber(known[2])
  if topic == '*' then cursor = cursor or (tonumber(known[3]) or 0) - 1 end
  return cursor and (seq == '0' or cursor < tonumber(seq))
end

-- Tell whether a message waits still: in a mailbox, for its lapse, or in a log. `last` is the last
-- part of its head.
local function is_waiting(timers, message, project, device, seq, last)
  if is_topic_copy(message) then
    return is_unread(string.match(timers, '^{.-}') .. ':d:' .. device, project, last, seq)
  end
  if seq == '0' then return call('ZSCORE', timers, 'lapse:' .. message) ~= false end
  local index = string.match(timers, '^{.-}') .. ':q:' .. device
  local member = call('ZRANGE', index, seq, seq, 'BYSCORE')[1]
  return member and string.sub(member, 1, #message + 1) == message .. '|'
end

-- End a message that no mailbox holds. One that had failed has ended so already: until now its
-- sender could have it tried again.
local function end_unheld(c, status, message, event, detail)
  call('ZREM', c.timers, 'lapse:' .. message)
  call('HDEL', status, 'f', 'bb', 'bp', 'bg')
  if event ~= 'bridged' and call('HEXISTS', status, 'e:failed') == 1 then
    call('PEXPIRE', status, c.retention)
  else
    close(c, status, message, event, detail)
  end
end

-- Give the job of a message, whatever queue it is in: project, device, seq, br, lane, since, and
-- the values of JOB. Nil where no bridge has anything to do for it (any more); nil and true where
-- one gave it up, so that it is tried again only when its sender asks for it.
local JOB = {'i', 'bb', 'e:bridged', 'bp', 'ba', 'bh', 'f', 'u', 'bg'}
local function job_of(c, message)
  local status = status_key(c.outbox, message)
  local kept = call('HMGET', status, unpack(JOB))
  local project, device, created, expires, send_at, seq, last = split_head(kept[1] or '')
  if not project or not kept[2] or kept[3] then return nil end
  if kept[9] then return nil, true end
  if not is_waiting(c.timers, message, project, device, seq, last) then return nil end
  if expires ~= created and tonumber(expires) <= tonumber(c.now) then return nil end
  local known = call('HMGET', string.match(c.outbox, '^{.-}') .. ':d:' .. device, 'p', 'br', 'u')
  local ended, why
  if known[1] ~= project then
    ended, why = 'dropped', 'unregistered'
  elseif kept[8] and kept[8] ~= known[3] then
    ended, why = 'dropped', 'user changed'
  elseif not known[2] then
    -- One with a TTL of 0 may be acked until it lapses.
    ended, why = is_only(kept[2]) and 'failed', 'no bridge'
  end
  if ended and seq == '0' and not is_topic_copy(message) then
    c.project, c.device = project, device
    end_unheld(c, status, message, ended, why)
  end
  if why then return nil end
  local since = math.max(tonumber(accepted_of(message)), tonumber(send_at))
  return {project = project, device = device, seq = seq, br = known[2], kept = kept,
    score = tonumber(string.sub(kept[2], 1, 1)) * LANE_MS + since}
end

-- Forget the job of a message for which no bridge has anything to do.
local function drop_job(outbox, message)
  local status = status_key(outbox, message)
  if is_topic_copy(message) then
    call('UNLINK', status)
  else
    call('HDEL', status, 'bb', 'bp')
  end
end

-- Note which topics a device with a bridge has, in its partition; a worker tells the topics. The
-- timer's time grows, so that whoever removes it has seen what was noted before.
local function reach(mailbox, timers, project, device, topics)
  local noted = string.match(mailbox, '^{.-}') .. ':bridged:' .. project .. ':'
  for _, topic in ipairs(topics) do call('SADD', noted .. topic, device) end
  local name = 'reach:' .. device
  local before = tonumber(call('ZSCORE', timers, name) or 0)
  call('ZADD', timers, math.max(store_clock(), before + 1), name)
end

-- The topics of a mailbox that `count` says to have, and the broadcast log.
local function reached_topics(mailbox, count)
  local found, out = topics_of(mailbox, count), {'*'}
  for at = 1, #found, 2 do out[#out + 1] = found[at] end
  return out
end

local function unreach(mailbox, timers, project, device, topics)
  local noted = string.match(mailbox, '^{.-}') .. ':bridged:' .. project .. ':'
  for _, topic in ipairs(topics) do call('SREM', noted .. topic, device) end
  call('ZREM', timers, 'stale:' .. device)
end

-- Have the devices of a topic that bridges reach walked over, where there may be any. Where no log
-- holds the message, its frame stands in the status.
local function plan_walk(log, timers, status, message, now, policy, part, frame, seq)
  if policy == '' or call('EXISTS', log .. ':bridged') == 0 then return end
  keep_bridge(status, policy, part)
  if seq == 0 then call('HSET', status, 'f', frame) end
  call('ZADD', timers, now, 'walk:' .. message)
end

-- Put a job into the queue of its device's bridge, and name the queue.
local function queue_job(tag, message, job, now)
  local lane = job.project .. ':' .. string.match(job.br, '^[^|]*')
  call('ZADD', tag .. ':bridge:' .. lane, 'NX', number(job.score), message)
  call('ZADD', tag .. ':bridges', 'NX', now, lane)
  return lane
end
