-- What waits for a peer: a stream, and beside it a hash of the queue's epoch, how many bytes were ever queued, and how many
-- events were given up since somebody was told. Each entry says how many bytes were queued before it, so those that wait
-- are a difference, which no removal can get wrong. Both keys expire at the same moment; where one of them is gone, so is
-- the queue.

-- Gives up what was queued before this time.
local function give_up(stream, state, before)
  local gone = redis.call('XTRIM', stream, 'MINID', '=', string.format('%.0f', math.max(0, before)))
  if gone > 0 then redis.call('HINCRBY', state, 'lost', gone) end
end

-- Queues an event, of which no more bytes may wait than `most`, and none for longer than `age` ms. True if it waits alone.
local function queue(stream, state, event, now, most, beside, age)
  local total, floor, ends = unpack(redis.call('HMGET', state, 'total', 'floor', 'ends'))
  -- The server's own number: its time, or just above the last one's, also after that was removed.
  if not total or not redis.call('XADD', stream, 'NOMKSTREAM', '*', 'e', event, 'b', total) then
    -- A stream that is made anew may give numbers that the peer has: it is another queue, made at another moment.
    redis.call('UNLINK', stream)
    redis.call('HSET', state, 'epoch', string.format('%.0f', moment()))
    redis.call('XADD', stream, '*', 'e', event, 'b', '0')
    total, floor, ends = 0, 0, 0
  end
  total, floor, ends = tonumber(total), tonumber(floor or 0), tonumber(ends or 0)
  total = total + #event + beside
  redis.call('HSET', state, 'total', string.format('%.0f', total))
  -- At least so many bytes do not wait any more: looked up anew only when that may be too few.
  if total - floor > most then
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    while first and total - tonumber(first[2][4]) > most do
      redis.call('XDEL', stream, first[1])
      redis.call('HINCRBY', state, 'lost', 1)
      first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    end
    redis.call('HSET', state, 'floor', first and first[2][4] or string.format('%.0f', total))
  end
  -- Well after the last event is too old: until then, whoever asks hears of what was given up. To the minute, since it
  -- would cost as much again as the rest.
  if ends < now + 2 * age then
    ends = string.format('%.0f', now + 2 * age + 60000)
    give_up(stream, state, now - age)
    redis.call('HSET', state, 'ends', ends)
    redis.call('PEXPIREAT', stream, ends)
    redis.call('PEXPIREAT', state, ends)
  end
  return redis.call('XLEN', stream) == 1
end
