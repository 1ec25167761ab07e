-- Shared by the functions of topics, on top of what all functions share.

-- Have a message to a topic paid for; gives the microseconds to wait where it cannot be.
local function pay_topic(state, status, rate, burst)
  if rate == '0' then return nil end
  local known = call('HMGET', state, 'rt', 'end')
  local paid, wait = pay(state, known[1], status, rate, burst)
  if paid then
    call('HSET', state, 'rt', paid)
    if not known[2] then call('PEXPIRE', state, TOPIC_KEEP_MS) end
  end
  return wait
end

-- Append the shards that follow a topic to `out`, and forget those that are gone.
local function live_shards(shards, clock, out)
  local found = call('HGETALL', shards)
  for at = 1, #found, 2 do
    if clock - tonumber(found[at + 1]) > FOLLOW_MS then
      call('HDEL', shards, found[at])
    else
      out[#out + 1] = found[at]
    end
  end
  return out
end

-- Have a connected device's session reminded that its device was changed by somebody else.
local function remind_of(mailbox, timers, device, at)
  call('HDEL', mailbox, 'rm')
  call('ZADD', timers, at, 'topics:' .. device)
end

-- Hold the bound of a log: the oldest messages end, a window a call.
local function drop_oldest(log, c, target)
  local over = math.min(call('XLEN', log) - TOPIC_MAX, WINDOW)
  if over < 1 then return end
  for _, entry in ipairs(call('XRANGE', log, '-', '+', 'COUNT', over)) do
    local message, expires, asked = string.match(entry[2][2], '^([^|]+)|(%d+)|(%a)|')
    call('XDEL', log, entry[1])
    if tonumber(expires) > tonumber(c.now) then
      close_topic(c, message, target, asked, 'dropped', 'log full')
    end
  end
end

-- Give what a session has to know of its device's profile, of the values of PROFILE: the seq up to
-- which it needs nothing of the broadcast log, and what filters ask for. Until a cursor is stored,
-- that is what stood there when the device registered: a seq is no less than the store's clock, and
-- `register` stores a cursor where the caller's clock was ahead of that.
local PROFILE = {'bc', 'ca', 'pl', 'av', 'la', 'rg', 'at'}
local function profile_of(known, at)
  local cursor = tonumber(known[at]) or math.max((tonumber(known[at + 1]) or 0) - 1, 0)
  return {cursor, known[at + 2] or '', known[at + 3] or '', known[at + 4] or '',
    known[at + 5] or '', known[at + 6] or ''}
end

-- Append a message to its log: m has message, target, key, receipts, frame, selection, expires. Gives its seq
-- and the one before; `collapsed` and `dropped` of others are written.
local function publish_to(log, state, collapse, c, m)
  local known = call('HMGET', state, 'seq', 'ttl', 'end')
  local previous, clock = tonumber(known[1]) or 0, store_clock()
  local seq = math.max(previous + 1, clock)
  if m.key ~= '' then
    local old = call('HGET', collapse, m.key)
    local entry = old and call('XRANGE', log, old .. '-0', old .. '-0')[1]
    if entry then
      call('XDEL', log, old .. '-0')
      local earlier, asked = string.match(entry[2][2], '^([^|]+)|%d+|(%a)|')
      close_topic(c, earlier, m.target, asked, 'collapsed', '')
    end
    if call('HLEN', collapse) >= 2 * TOPIC_MAX then call('UNLINK', collapse) end
    call('HSET', collapse, m.key, seq)
  end
  local ttl = math.max(m.expires - c.now, tonumber(known[2]) or 0)
  local last = math.max(tonumber(m.expires), tonumber(known[3]) or 0)
  local head = m.message .. '|' .. m.expires .. '|' .. m.receipts .. '|' .. m.key
  local oldest = math.max(clock - ttl, 0)
  if m.selection ~= '' then
    call('XADD', log, 'MINID', '~', oldest, seq .. '-0', 'h', head, 'f', m.frame, 's', m.selection)
  else
    call('XADD', log, 'MINID', '~', oldest, seq .. '-0', 'h', head, 'f', m.frame)
  end
  drop_oldest(log, c, m.target)
  call('HSET', state, 'seq', seq, 'ttl', ttl, 'end', last)
  for _, kept in ipairs({log, state, collapse}) do
    call('PEXPIRE', kept, last - c.now + TOPIC_KEEP_MS)
  end
  return seq, previous
end

-- List the topics of a mailbox with their cursors; `count` is how many it says to have.
local function topics_of(mailbox, count)
  local out = {}
  if not count then return out end
  local all = call('HGETALL', mailbox)
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 't:' then
      out[#out + 1] = string.sub(all[at], 3)
      out[#out + 1] = all[at + 1]
    end
  end
  return out
end
