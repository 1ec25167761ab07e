-- Note how far devices of one partition have acked their topics.
-- KEYS: mailbox…
-- ARGV: (epoch topic cursor)…
-- returns: how many were noted
-- events: none
-- invariant: only the newest epoch moves a cursor, only of a subscription that stands or of the
--   broadcast log (*), only forward
-- FLAGS: allow-oom
local noted = 0
for at = 1, #keys do
  local epoch, field = args[3 * at - 2], 't:' .. args[3 * at - 1]
  local everybody = field == 't:*'
  if everybody then field = 'bc' end
  local known = call('HMGET', keys[at], 'ep', field)
  local stands = known[2] or everybody
  if known[1] == epoch and stands and (tonumber(known[2]) or 0) < tonumber(args[3 * at]) then
    call('HSET', keys[at], field, args[3 * at])
    noted = noted + 1
  end
end
return noted
