-- Have the messages of a topic sent to a shard.
-- KEYS: state shards
-- ARGV: shard
-- returns: the seq of the topic's last message, 0 where there is none
-- events: none
-- invariant: what is published after it goes to the shard, until it unfollows or is silent for long
local state, shards = unpack(keys)
local clock = store_clock()
call('HSET', shards, args[1], clock)
call('PEXPIRE', shards, FOLLOW_MS)
return tonumber(call('HGET', state, 'seq') or 0)
