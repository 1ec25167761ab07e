-- Shared by all functions of the library. Every key that is not known before the call (the status
-- of a message found in the index) is derived from the hash tag of a declared key: one slot.
--
-- Layout:
--   index member    <message>|<expires ms>|<collapse key>          score: seq
--   status field i  <project>|<device>|<created ms>|<expires ms>|<send at ms>|<seq>|<collapse key>
--   of a message to a user or a group each mailbox has a copy, whose id is <message>.<device>
--   status field e:<event>  <ms> or <ms>|<detail>
--   topic log       id <seq>-0, field h <message>|<expires ms>|<receipts>|<collapse key>, f frame,
--                   s selection where the message is not for all
--   outbox field r  <project>|<message>|<device>|<event>|<ms>|<accepted ms>|<sent ms>|<detail>
--     <device> of a message to a topic as a whole: /topics/<topic>, or ~/topics/<topic>

-- Bound at the start of each function: while a library loads, redis.call does not exist.
local call
local WINDOW = 128
local BATCH = 100
local ROUNDS = 8
local OUTBOX_MAX = '1000000'
local OUTBOX_CHECK = 97
local MESSAGE_CHARACTERS = 27
local IDEMPOTENCY_MS = '86400000'
local TOPIC_MAX = 10000
-- So many devices of a message to a topic are known one by one, for each thing that people do.
local EXACT = 10000
local ENGAGEMENT = {'displayed', 'opened', 'clicked', 'dismissed'}
-- A topic's keys outlive its last message by so much: clocks of the APIs differ.
local TOPIC_KEEP_MS = 60000
-- A session that has not read a change of its device's topics in so long is no longer reminded.
local REMIND_MS = 3600000
-- A shard that does not say for so long that it follows a topic is gone.
local FOLLOW_MS = 120000

-- A message id carries the time of its acceptance: partition (2), milliseconds in base 36 (9).
local function accepted_of(message)
  return string.format('%d', tonumber(string.sub(message, 3, 11), 36) or 0)
end

-- Append to the outbox. Its bound is kept by a trim now and then: MAXLEN at each append would cost
-- as much as the append does. Only an outbox that no worker reads for long comes near the bound.
local appended = 0
local function append(outbox, ...)
  call('XADD', outbox, '*', ...)
  appended = appended + 1
  if appended % OUTBOX_CHECK == 0 then call('XTRIM', outbox, 'MAXLEN', '~', OUTBOX_MAX) end
end

local function emit(outbox, project, message, device, event, time, accepted, sent, detail)
  if #message > MESSAGE_CHARACTERS then message = string.sub(message, 1, MESSAGE_CHARACTERS) end
  append(outbox, 'r', project .. '|' .. message .. '|' .. device .. '|' .. event .. '|' .. time
    .. '|' .. accepted .. '|' .. sent .. '|' .. detail)
end

local function status_key(outbox, message)
  return string.match(outbox, '^{.-}') .. ':msg:' .. message
end

-- Answer for one part of a call what went wrong with it; the others go on.
local function failure(reason)
  if type(reason) == 'table' and reason.err then return {err = reason.err} end
  return {err = 'ERR ' .. tostring(reason)}
end

-- Give the answer to a request whose idempotency key was used before: {-3} for another request,
-- {-4, message} for the same one; nil where the key is new, or the message is this very one.
local function answer_before(idempotency, digest, message)
  local first = call('GET', idempotency)
  if not first then return nil end
  local seen, id = string.match(first, '^([^|]*)|(.+)$')
  if seen ~= digest then return {-3} end
  if id ~= message then return {-4, id} end
  return nil
end

-- Tell whether a mailbox is the one that a message is for. Its proof is the nonce of the token; of
-- a copy, a field of the mailbox and its value: `u:<user>`, or `ca:<when the device registered>`.
local function is_for(mailbox, nonce, proof)
  if nonce == proof then return true end
  local field, value = string.match(proof, '^(%l+):(.+)$')
  return field and call('HGET', mailbox, field) == value
end

-- Write the terminal event of a message: status and outbox.
local function close(c, status, message, event, detail)
  local value = c.now
  if detail ~= '' then value = c.now .. '|' .. detail end
  call('HSET', status, 'e:' .. event, value)
  call('PEXPIRE', status, c.retention)
  emit(c.outbox, c.project, message, c.device, event, c.now, accepted_of(message), '0', detail)
end

-- Name a message to a topic in the outbox; a mark tells that nobody wants receipts of it.
local function whole(target, receipts)
  if receipts == 'n' then return '~' .. target end
  return target
end

-- End a message to a topic. What was noted of its devices goes when its status does.
local function close_topic(c, message, target, receipts, event, detail)
  local status = status_key(c.outbox, message)
  call('ZREM', c.timers, 'lapse:' .. message)
  c.device = whole(target, receipts)
  close(c, status, message, event, detail)
  call('PEXPIRE', status .. ':devices', c.retention)
  for _, done in ipairs(ENGAGEMENT) do
    call('PEXPIRE', status .. ':' .. done, c.retention)
    call('PEXPIRE', status .. ':' .. done .. ':many', c.retention)
  end
end

local function topic_log(outbox, project, target)
  local name = string.match(target, '([^/]*)$')
  return string.match(outbox, '^{.-}') .. ':topic:' .. project .. ':' .. name
end

local function split_head(head)
  return string.match(head, '^([^|]*)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(.*)$')
end

local function drop_frame(c, seq, collapse)
  if collapse ~= '' and call('HGET', c.frames, 'c:' .. collapse) == seq then
    call('HDEL', c.frames, seq, 'n:' .. seq, 'c:' .. collapse)
  else
    call('HDEL', c.frames, seq, 'n:' .. seq)
  end
end

-- Take one message out of index and frames.
local function remove(c, member, seq, collapse)
  call('ZREM', c.index, member)
  drop_frame(c, seq, collapse)
end

-- Take an acked message out of index and frames; false where it does not wait. Nearly always it is
-- the first of its mailbox (`first` then): to take that one costs less than to look for it.
local function take_out(c, message, seq)
  local found = call('ZPOPMIN', c.index)
  local member = found[1]
  if member and found[2] ~= seq then
    call('ZADD', c.index, found[2], member)
    member = call('ZRANGE', c.index, seq, seq, 'BYSCORE')[1]
  end
  if not member then return false end
  local own, collapse = string.match(member, '^([^|]+)|%d+|(.*)$')
  if own ~= message then
    if found[2] == seq then call('ZADD', c.index, seq, member) end
    return false
  end
  if found[2] == seq then c.first = seq else call('ZREM', c.index, member) end
  drop_frame(c, seq, collapse)
  return true
end

-- Note of how many messages lost to the pending cap a device has heard.
local function hear_of_drops(mailbox, drops)
  local counted = call('HMGET', mailbox, 'dr', 'dk')
  local heard = math.min(tonumber(drops), tonumber(counted[1]) or 0)
  if heard > (tonumber(counted[2]) or 0) then call('HSET', mailbox, 'dk', heard) end
end

-- Take one message out of the mailbox and write its terminal event.
local function finish(c, member, seq, event, detail)
  local message, collapse = string.match(member, '^([^|]+)|%d+|(.*)$')
  remove(c, member, seq, collapse)
  close(c, status_key(c.outbox, message), message, event, detail)
end

-- An empty mailbox has no timers.
local function settle(c)
  if call('ZCARD', c.index) == 0 then
    call('ZREM', c.timers, 'redeliver:' .. c.device, 'expire:' .. c.device)
  end
end

-- Tell whether a member of the index has no collapse key; one may end with a bar.
local function is_plain(member)
  return string.find(member, '^[^|]+|%d+|$') ~= nil
end

-- Make room for one message: the oldest that is not collapsible goes, or the oldest of all.
local function make_room(c)
  local victim = call('ZRANGE', c.index, 0, 0, 'WITHSCORES')
  if not is_plain(victim[1]) then
    local window = call('ZRANGE', c.index, 0, WINDOW - 1, 'WITHSCORES')
    for at = 3, #window, 2 do
      if is_plain(window[at]) then
        victim = {window[at], window[at + 1]}
        break
      end
    end
  end
  finish(c, victim[1], victim[2], 'dropped', 'pending cap')
  call('HINCRBY', c.mailbox, 'dr', 1)
end

-- Set timers, unless they stand at an earlier time.
local function set_timers(timers, due)
  if #due > 0 then call('ZADD', timers, 'LT', unpack(due)) end
end

-- Put an accepted message into the mailbox: collapse, cap, index, frame, timers. Where the caller
-- gathers timers in `due`, it sets them.
local function put(c, message, seq, expires, collapse, frame, cap, redeliver_at)
  if collapse ~= '' then
    local old = call('HGET', c.frames, 'c:' .. collapse)
    local member = old and call('ZRANGE', c.index, old, old, 'BYSCORE')[1]
    if member then finish(c, member, old, 'collapsed', '') end
  end
  cap = tonumber(cap)
  if seq > cap and call('ZCARD', c.index) >= cap then make_room(c) end
  call('ZADD', c.index, seq, message .. '|' .. expires .. '|' .. collapse)
  call('HSET', c.mailbox, 'seq', seq)
  if collapse ~= '' then
    call('HSET', c.frames, seq, frame, 'c:' .. collapse, seq)
  else
    call('HSET', c.frames, seq, frame)
  end
  local due = c.due or {}
  due[#due + 1] = expires
  due[#due + 1] = 'expire:' .. c.device
  if redeliver_at then
    due[#due + 1] = redeliver_at
    due[#due + 1] = 'redeliver:' .. c.device
  end
  if not c.due then set_timers(c.timers, due) end
end

-- Read up to `limit` messages that are due from behind seq `after`; expired ones met on the way
-- end here. `quiet` is the latest not-before of any nack. Appends member, seq, frame to `out` and
-- returns whether more waits beyond.
local function read_window(c, after, limit, quiet, out)
  limit = math.min(tonumber(limit), WINDOW)
  if limit < 1 then return call('ZCARD', c.index) > 0 and 1 or 0 end
  local now = tonumber(c.now)
  local check_nacks = quiet and tonumber(quiet) > now
  local members, seqs = {}, {}
  local page = limit
  for _ = 1, ROUNDS do
    local found = call('ZRANGE', c.index, '(' .. after, '+inf', 'BYSCORE', 'LIMIT', 0, page,
      'WITHSCORES')
    for at = 1, #found, 2 do
      if #seqs == limit then break end
      local member, seq = found[at], found[at + 1]
      after = seq
      local not_before = check_nacks and call('HGET', c.frames, 'n:' .. seq)
      if tonumber(string.match(member, '|(%d+)|')) <= now then
        finish(c, member, seq, 'expired', '')
      elseif not not_before or tonumber(not_before) <= now then
        members[#members + 1] = member
        seqs[#seqs + 1] = seq
      end
    end
    if #found < 2 * page or #seqs == limit then break end
    page = WINDOW
  end
  local more = 0
  if #seqs > 0 then
    if call('ZCOUNT', c.index, '(' .. seqs[#seqs], '+inf') > 0 then more = 1 end
    local frames = call('HMGET', c.frames, unpack(seqs))
    for at = 1, #seqs do
      if frames[at] then
        out[#out + 1] = members[at]
        out[#out + 1] = seqs[at]
        out[#out + 1] = frames[at]
      end
    end
  end
  return more
end

-- Whether an id of a stream comes after another.
local function is_after(one, other)
  local time, number = string.match(one, '^(%d+)-(%d+)$')
  local other_time, other_number = string.match(other, '^(%d+)-(%d+)$')
  if time ~= other_time then return tonumber(time) > tonumber(other_time) end
  return tonumber(number) > tonumber(other_number)
end

-- Drop dead letters that are too old or too many, a window of each, and return how many.
local function trim_letters(dead, letters, now, bound, retention)
  local old = call('ZRANGE', dead, '-inf', now - retention, 'BYSCORE', 'LIMIT', 0, WINDOW)
  if #old > 0 then
    call('ZREM', dead, unpack(old))
    call('HDEL', letters, unpack(old))
  end
  local over = math.min(call('ZCARD', dead) - bound, WINDOW)
  if over < 1 then return #old end
  local first = call('ZRANGE', dead, 0, over - 1)
  call('ZREM', dead, unpack(first))
  call('HDEL', letters, unpack(first))
  return #old + over
end

-- The store's own clock, in milliseconds: those of its callers differ.
local function store_clock()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The same in microseconds, for token buckets.
local function clock_us()
  local time = call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Write a number so that reading it gives the same one.
local function number(value)
  return string.format('%.17g', value)
end

-- Take as many of `most` tokens of a bucket as there are: router/policy/rates.py by the store's
-- clock. `full` is what was kept of it, nil or false of a new one. Returns how many were taken, what
-- to keep, what is left, and the microseconds until one more is there.
local function charge(full, now, rate, burst, most)
  rate, burst = tonumber(rate), tonumber(burst)
  local start = math.min(math.max(tonumber(full or 0), now), now + burst * 1000000 / rate)
  local room = math.floor(burst - (start - now) * rate / 1000000 + 0.001)
  local granted = math.max(math.min(room, most), 0)
  local after = start + granted * 1000000 / rate
  local left = math.max(room, 0) - granted
  if left > 0 then return granted, after, left, 0 end
  return granted, after, 0, math.max(after - now + (1 - burst) * 1000000 / rate, 0)
end

-- Tell whether a bucket was emptier than empty. What `charge` made of it has to be kept even where
-- nothing was taken: it would be as empty at each call, and never fill.
local function is_beyond(full, after)
  return tonumber(full or 0) > after
end

-- Ask a bucket, kept in field `rt` of a hash, for a message. Gives what to keep of it where the
-- message is taken; or nil and the microseconds to wait, unless the message is known: it has
-- paid. No rate, no bucket: nil.
local function pay(hash, full, status, rate, burst)
  if rate == '0' then return nil end
  local granted, after, _, wait = charge(full, clock_us(), rate, burst, 1)
  if granted > 0 then return number(after) end
  if is_beyond(full, after) then call('HSET', hash, 'rt', number(after)) end
  if call('EXISTS', status) == 1 then return nil end
  return nil, math.ceil(wait)
end

-- List the members of a user or a group as `<device> <stamp> <device> <stamp>…`; nil where there is
-- no such group. The field `#` of a group is not a member.
local function members_of(members)
  local found = call('HGETALL', members)
  if #found == 0 and string.find(members, '^{%x+}:group:') then return nil end
  local out = {}
  for at = 1, #found, 2 do
    if found[at] ~= '#' then
      out[#out + 1] = found[at]
      out[#out + 1] = found[at + 1]
    end
  end
  return table.concat(out, ' ')
end

-- Append what `members_of` listed to `out`.
local function devices_of(listed, out)
  for word in string.gmatch(listed or '', '%S+') do out[#out + 1] = word end
  return out
end
