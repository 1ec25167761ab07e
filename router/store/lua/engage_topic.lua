-- Note what people did with a message of a topic, on some of its devices.
-- KEYS: outbox status devices
-- ARGV: message project (event device time detail)…
-- returns: how many events were new
-- events: those given, each once for each device, where the sender wants receipts of devices
-- invariant: a device counts once for an event, however often it tells of it; beyond EXACT devices
--   their number is an estimate, so that what a message takes has a bound
-- FLAGS: allow-oom
local outbox, status, devices = unpack(keys)
local message, project = unpack(args, 1, 2)
local known = call('HMGET', status, 'i', 'r')
if split_head(known[1] or '') ~= project or known[2] == 'n' then return 0 end
local each, noted, left = known[2] == 'd', 0, call('PTTL', status)
local estimated = {}
for at = 3, #args, 4 do
  local event, device, time, detail = unpack(args, at, at + 3)
  local new
  if each then
    new = call('HSETNX', devices, device .. '|' .. event, time) == 1
    if new then
      call('HINCRBY', status, 'n:' .. event, 1)
      emit(outbox, project, message, device, event, time, '0', '0', detail)
    end
  else
    local exact, many = status .. ':' .. event, status .. ':' .. event .. ':many'
    new = call('PFADD', many, device) == 1
    if call('HEXISTS', status, 'h:' .. event) == 1 then
      if new then estimated[event] = many end
    else
      new = call('SADD', exact, device) == 1
      if new and call('HINCRBY', status, 'n:' .. event, 1) > EXACT then
        call('HSET', status, 'h:' .. event, '1')
        call('UNLINK', exact)
      elseif new then
        call('PEXPIRE', exact, left)
      end
    end
    if new then call('PEXPIRE', many, left) end
  end
  if new then
    noted = noted + 1
    call('HSETNX', status, 'e:' .. event, time)
  end
end
for event, many in pairs(estimated) do
  local number = math.max(call('PFCOUNT', many), tonumber(call('HGET', status, 'n:' .. event)))
  call('HSET', status, 'n:' .. event, number)
end
if each and noted > 0 then call('PEXPIRE', devices, left) end
return noted
