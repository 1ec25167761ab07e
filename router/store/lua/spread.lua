-- Say what is left to do of a message to a user or a group; a scheduled one is accepted here.
-- KEYS: members timers outbox status
-- ARGV: message now again retention
-- returns: {cancelled, accepted, frame, bridge, part, rate, device, stamp…}; nil where nothing is
--   left to do
-- events: accepted of a scheduled one; or expired, or dropped (no devices)
-- invariant: the devices are fixed once; the timer stands until all copies are made, or taken back
local members, timers, outbox, status = unpack(keys)
local message, now, again, retention = unpack(args)
local name = 'spread:' .. message
local kept = call('HMGET', status, 'i', 'f', 'd', 'x', 'e:accepted', 'bb', 'bp', 'rt')
if not kept[1] or not kept[2] then
  call('ZREM', timers, name)
  return nil
end
local project, target, created, expires = split_head(kept[1])
local listed, accepted = kept[3], kept[5] or created
if not listed then
  local ended, why
  if expires ~= created and tonumber(expires) <= tonumber(now) then ended, why = 'expired', '' end
  listed = members_of(members) or ''
  if not ended and listed == '' then ended, why = 'dropped', 'no devices' end
  if ended then
    call('ZREM', timers, name)
    call('HDEL', status, 'f', 'bb', 'bp', 'rt')
    close({outbox = outbox, project = project, device = target, now = now, retention = retention},
      status, message, ended, why)
    return nil
  end
  accepted = now
  call('HSET', status, 'd', listed, 'e:accepted', now)
  emit(outbox, project, message, target, 'accepted', now, '0', '0', '')
end
call('ZADD', timers, again, name)
return devices_of(listed, {kept[4] and 1 or 0, accepted, kept[2], kept[6] or '', kept[7] or '',
  kept[8] or ''})
