-- Put a message that is due for a bridge into the queue of its device's bridge.
-- KEYS: timers outbox
-- ARGV: message now retention
-- returns: {`<project>:<bridge>`, its score} of the queue; nil where no bridge has anything to do, or
--   not yet
-- events: of a message that no mailbox holds: dropped (unregistered, user changed), failed (no bridge)
-- invariant: a job stands in a queue or has a timer until it is done
-- FLAGS: allow-oom
local timers, outbox = unpack(keys)
local message, now, retention = unpack(args)
local c = {timers = timers, outbox = outbox, now = now, retention = retention}
local job, given_up = job_of(c, message)
local tag = string.match(timers, '^{.-}')
if job and job.seq ~= '0' then
  -- The device lives, and wants it later.
  local not_before = call('HGET', tag .. ':f:' .. job.device, 'n:' .. job.seq)
  if not_before and tonumber(not_before) > tonumber(now) then
    call('ZADD', timers, not_before, 'bridge:' .. message)
    return nil
  end
end
call('ZREM', timers, 'bridge:' .. message)
if not job then
  if not given_up then drop_job(outbox, message) end
  return nil
end
return {queue_job(tag, message, job, now), number(job.score)}
