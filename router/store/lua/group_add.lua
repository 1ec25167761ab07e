-- Put devices into a group.
-- KEYS: members
-- ARGV: limit (device stamp)…
-- returns: {1 or, where the group is full, 0…}, one a device; nil where there is no such group
-- events: none
-- invariant: no more than `limit` members; an entry tells when its device had registered, so that it
--   is void for a later registration with the same id
local members = keys[1]
if call('HEXISTS', members, '#') == 0 then return nil end
local size, out = call('HLEN', members) - 1, {}
for at = 2, #args, 2 do
  local device, stamp = args[at], args[at + 1]
  local held = call('HEXISTS', members, device) == 1
  if held or size < tonumber(args[1]) then
    if not held then size = size + 1 end
    call('HSET', members, device, stamp)
    out[#out + 1] = 1
  else
    out[#out + 1] = 0
  end
end
return out
