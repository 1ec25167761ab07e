-- Note who has an address from now on.
-- KEYS: address
-- ARGV: device keep
-- returns: {device…}: those that may have it still
-- events: none
-- invariant: who was not settled stays noted, the last few of them: a caller that dies before it has
--   taken the address from them leaves that to the next
local known = call('GET', keys[1])
local words, former = {args[1]}, {}
for word in string.gmatch(known or '', '%S+') do
  if word ~= args[1] and #former < FORMER then
    words[#words + 1] = word
    former[#former + 1] = word
  end
end
call('SET', keys[1], table.concat(words, ' '), 'PX', args[2])
return former
