-- Note how far devices of one partition have acked their topics.
-- KEYS: mailbox…
-- ARGV: (epoch topic cursor)…
-- returns: how many were noted
-- events: none
-- invariant: only the newest epoch moves a cursor, only of a subscription that stands, only forward
-- FLAGS: allow-oom
local noted = 0
for at = 1, #keys do
  local epoch, field = args[3 * at - 2], 't:' .. args[3 * at - 1]
  local known = call('HMGET', keys[at], 'ep', field)
  if known[1] == epoch and known[2] and tonumber(known[2]) < tonumber(args[3 * at]) then
    call('HSET', keys[at], field, args[3 * at])
    noted = noted + 1
  end
end
return noted
