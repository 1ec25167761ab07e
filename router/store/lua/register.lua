-- Register a device.
-- KEYS: mailbox index
-- ARGV: nonce hash now (field value)…
-- returns: 1, or 0 where the id is taken
-- events: none
-- invariant: epochs of a later registration are higher, so nothing of an earlier one fits
local mailbox, index = unpack(keys)
local nonce, hash, now = unpack(args, 1, 3)
local known = call('HMGET', mailbox, 'p', 'n', 'h')
if known[1] then
  if known[2] == nonce and known[3] == hash then return 1 end
  return 0
end
if call('EXISTS', index) == 1 then return 0 end
call('HSET', mailbox, 'n', nonce, 'h', hash, 'ca', now, 'ep', now, 'seq', '0', unpack(args, 4))
return 1
