-- Note what each of some devices did with a message of a topic.
-- KEYS: outbox status devices
-- ARGV: message project (event device time)…
-- returns: how many events were new
-- events: the events given, each once for each device
-- invariant: the numbers in the status count each device once
-- FLAGS: allow-oom
local outbox, status, devices = unpack(keys)
local message, project = unpack(args, 1, 2)
if split_head(call('HGET', status, 'i') or '') ~= project then return 0 end
local noted = 0
for at = 3, #args, 3 do
  local event, device, time = args[at], args[at + 1], args[at + 2]
  if call('HSETNX', devices, device .. '|' .. event, time) == 1 then
    noted = noted + 1
    call('HINCRBY', status, 'n:' .. event, 1)
    call('HSETNX', status, 'e:' .. event, time)
    local accepted = '0'
    if event == 'delivered' then accepted = accepted_of(message) end
    emit(outbox, project, message, device, event, time, accepted, '0', '')
  end
end
if noted > 0 then call('PEXPIRE', devices, call('PTTL', status)) end
return noted
