-- Give the callback at the head of a lane; make one of what waits where there is none.
-- KEYS: lane queue due
-- ARGV: member id now hold linger head tail
-- returns: {id, body, receipts, created, history}; nil where nothing is ready
-- events: none
-- invariant: id and body of a callback never change once they were given out; one head a lane
-- FLAGS: allow-oom
local lane, queue, due = unpack(keys)
local member, id, now, hold, linger, head, tail = unpack(args)
local callback = call('HMGET', lane, 'id', 'body', 'n', 'created', 'history')
if not callback[1] then
  local found = call('LRANGE', queue, 0, BATCH - 1)
  if #found == 0 then
    call('ZREM', due, member)
    return nil
  end
  local kind, created = string.sub(found[1], 1, 1), string.sub(found[1], 2, 14)
  local taken, bytes, receipts, body = 1, #found[1], 0, string.sub(found[1], 15)
  if kind == 'x' then
    id, receipts, body = string.match(body, '^([^|]*)|(%d+)|(.*)$')
  elseif kind == 'r' then
    local parts = {body}
    while found[taken + 1] and string.sub(found[taken + 1], 1, 1) == 'r' do
      taken = taken + 1
      bytes = bytes + #found[taken]
      parts[taken] = string.sub(found[taken], 15)
    end
    if taken == #found and taken < BATCH and created + linger > tonumber(now) then
      call('ZADD', due, created + linger, member)
      return nil
    end
    receipts, body = taken, head .. table.concat(parts, ',') .. tail
  end
  call('LTRIM', queue, taken, -1)
  call('HINCRBY', lane, 'b', -bytes)
  call('HSET', lane, 'id', id, 'body', body, 'n', receipts, 'created', created)
  callback = {id, body, tostring(receipts), created, false}
end
call('ZADD', due, now + hold, member)
return callback
