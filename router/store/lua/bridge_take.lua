-- Give the first jobs of a queue to the worker that owns the partition.
-- KEYS: lease queue bridges timers outbox
-- ARGV: worker lane most now hold retention
-- returns: {score of the next job, (message, device, br, seq, frame, part, attempts, tries, score)…},
--   the score empty where none waits, frame and part of a message to a topic too; nil where the
--   worker does not own the partition
-- events: of a message that no mailbox holds: dropped (unregistered, user changed), failed (no bridge)
-- invariant: a job that was given out has a timer, which brings it back unless it is done before
-- FLAGS: allow-oom
local lease, queue, bridges, timers, outbox = unpack(keys)
local worker, lane, most, now, hold, retention = unpack(args)
if call('GET', lease) ~= worker then return nil end
local c = {timers = timers, outbox = outbox, now = now, retention = retention}
local tag = string.match(timers, '^{.-}')
local found = call('ZRANGE', queue, 0, math.min(most, WINDOW) - 1, 'WITHSCORES')
local out = {''}
for at = 1, #found, 2 do
  local message = found[at]
  local job, given_up = job_of(c, message)
  call('ZREM', queue, message)
  if given_up then
    call('ZREM', timers, 'bridge:' .. message)
  elseif not job then
    drop_job(outbox, message)
  elseif job.project .. ':' .. string.match(job.br, '^[^|]*') ~= lane then
    queue_job(tag, message, job, now)
  else
    local frame = job.kept[7]
    if job.seq ~= '0' and not is_topic_copy(message) then
      frame = call('HGET', tag .. ':f:' .. job.device, job.seq)
    end
    call('ZADD', timers, now + hold, 'bridge:' .. message)
    for _, part in ipairs({message, job.device, job.br, job.seq, frame or '', job.kept[4] or '',
      job.kept[5] or '0', job.kept[6] or '', found[at + 1]}) do
      out[#out + 1] = part
    end
  end
end
local head = call('ZRANGE', queue, 0, 0, 'WITHSCORES')
if head[2] then
  out[1] = head[2]
else
  call('ZREM', bridges, lane)
end
return out
