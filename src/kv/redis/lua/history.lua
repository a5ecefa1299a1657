-- A topic's history is a stream, in which each event is kept for its own type's count and time. What that takes lies beside
-- it. "<history> of <type>" is a list of the places of that type's events, oldest first. "<history> kept" is a hash: under
-- "=<type>" for how long that type is kept, in ms, and when its list expires; under '<' the newest place that was dropped;
-- under '>' the newest one that was given out; under '!' that some event was taken back; under "~<type>" what is left to
-- show of a type that has a pace. "<history> withdrawn" is a hash of the
-- places of events that were taken back, each with the place before it: they count as if the events were still there, so that
-- nothing seems to be missing. All of them expire once nothing that they tell of could be kept any more. "<mark>:topics" is a
-- sorted set of the bucket's topics that have events, by the time of one of the newest.

-- Places that one call gives up, about: what is left over goes with the next calls.
local DROPS = 1000

local function numbers(place)
  local ms, seq = string.match(place, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- The later one of two places; an empty text is before all.
local function later(one, other)
  if one == '' or other == '' then return one .. other end
  local ms, seq = numbers(one)
  local other_ms, other_seq = numbers(other)
  if ms > other_ms or (ms == other_ms and seq > other_seq) then return one end
  return other
end

-- Where a history ends, whether or not the event of that place is still in it. `given` is what is noted of that. An earlier
-- version notes nothing.
local function end_of(history, given)
  local last = redis.call('XREVRANGE', history, '+', '-', 'COUNT', 1)[1]
  return later(last and last[1] or '', given or '')
end

-- Drops a type's oldest events: those from before `time`, and all beyond `count`. `left` is how many places its list has.
local function drop(history, kept, places, left, count, time)
  local gone, step, more = {}, 1, true
  while more and #gone < DROPS do
    -- Mostly one is to go, or none.
    local oldest = redis.call('LRANGE', places, #gone, #gone + step - 1)
    more = #oldest == step
    for _, place in ipairs(oldest) do
      if left - #gone <= count and numbers(place) >= time then
        more = false
        break
      end
      gone[#gone + 1] = place
    end
    step = step * 2
  end
  if #gone == 0 then return end
  -- First it is said that they are gone. A server without memory takes no note, and then they stay.
  local dropped, withdraws = unpack(redis.call('HMGET', kept, '<', '!'))
  local noted = redis.pcall('HSET', kept, '<', later(gone[#gone], dropped or ''))
  if type(noted) == 'table' and noted.err then return end
  if withdraws then redis.call('HDEL', history .. ' withdrawn', unpack(gone)) end
  redis.call('XDEL', history, unpack(gone))
  redis.call('LTRIM', places, #gone, -1)
end

-- Drops what is too old, each type by its own time, and gives what is noted of the history.
local function drop_old(history, kept, now)
  local noted = {}
  local fields = redis.call('HGETALL', kept)
  for at = 1, #fields, 2 do
    local kind, age = string.match(fields[at], '^=(.*)$'), string.match(fields[at + 1], '^%d+')
    if kind then
      drop(history, kept, history .. ' of ' .. kind, 0, 0, now - tonumber(age))
    else
      noted[fields[at]] = fields[at + 1]
    end
  end
  noted['<'] = redis.call('HGET', kept, '<') or ''
  return noted
end

-- What the pace of a type makes of its next event, as `pace.rs` says: the events that were left out before it, or -1 if it is
-- left out as well. `pace` is how many are shown a second, less than 0 if this one is shown in any case.
local function decide(kept, kind, pace, now)
  local always, rate = pace < 0, math.abs(pace)
  local quarter, most = math.floor(now / 250), rate + 3
  local field = '~' .. kind
  local at, left, skipped = string.match(redis.call('HGET', kept, field) or '', '^(%d+) (%d+) (%d+)$')
  at, left, skipped = tonumber(at or quarter), tonumber(left or most), tonumber(skipped or 0)
  left = math.min(left + math.max(0, quarter - at) * rate, most)
  local said = -1
  if left >= 4 or always then
    left, said, skipped = math.max(0, left - 4), skipped, 0
  else
    skipped = skipped + 1
  end
  redis.call('HSET', kept, field, string.format('%.0f %.0f %.0f', math.max(at, quarter), left, skipped))
  return said
end

-- The text of an event, with what its pace made of it in front of its data.
local function mark(event, said)
  if said == 0 then return event end
  local at = string.find(event, ',"data":', 1, true)
  if not at then return event end
  local mark = said < 0 and ',"shown":false' or string.format(',"skipped":%.0f', said)
  return string.sub(event, 1, at - 1) .. mark .. string.sub(event, at)
end

-- Puts an event into a topic's history, which keeps so many of its type, for so many ms; `longest` is for how long any type is
-- kept. Gives its place, and that of the one before it, or the time since which nothing was lost if that is later; nothing of
-- one that was taken back before it came, but then its id. Behind its place stands what its pace made of it, and as a second
-- value the text that says so; `pace` is 0 where nothing is to be decided.
-- `now` is the time of the bucket with this mark, `began` since when it lost nothing.
local function put(history, bucket, kept, places, event, kind, count, age, longest, now, began, pace)
  age = tonumber(age)
  longest = math.max(age, tonumber(longest))
  local given, known, withdraws = unpack(redis.call('HMGET', kept, '>', '=' .. kind, '!'))
  if withdraws then
    local id = string.match(event, '^{"id":"([^"\\]+)",')
    if id and redis.call('EXISTS', history .. ' without ' .. id) == 1 then return nil, id end
  end
  local ms, seq, prev = now, 1, end_of(history, given)
  if prev ~= '' then
    local a, b = numbers(prev)
    if a >= now then ms, seq = a, b + 1 end
  end
  local id = string.format('%.0f-%.0f', ms, seq)
  local said = pace == 0 and 0 or decide(kept, kind, pace, now)
  event = mark(event, said)
  redis.call('SET', bucket .. ':given', string.format('%.0f', ms))
  -- Each entry names the one before it: so whoever reads the first one that is left knows what an earlier version, which
  -- notes nothing, trimmed last.
  redis.call('XADD', history, id, 'e', event, 'p', prev)
  redis.call('XTRIM', history, 'MINID', '=', string.format('%.0f', math.max(0, now - longest)))
  local left = redis.call('RPUSH', places, id)
  local ends = tonumber(string.match(known or '', '%d+$') or 0)
  if left == 1 or ends < ms + longest then
    -- To the minute, since it would cost as much again as the rest.
    ends = ms + longest + 60000
    redis.call('PEXPIREAT', places, string.format('%.0f', ends))
    redis.call('HSET', kept, '>', id, '=' .. kind, string.format('%.0f %.0f', age, ends))
    redis.call('PEXPIREAT', kept, string.format('%.0f', ends))
    -- The index is so much behind as well: its part of what that costs is once a minute.
    redis.call('ZADD', bucket .. ':topics', string.format('%.0f', ms), string.match(history, '}:h:(.*)$'))
    redis.call('ZREMRANGEBYSCORE', bucket .. ':topics', '-inf', string.format('%.0f', now - longest - 120000))
  else
    redis.call('HSET', kept, '>', id)
  end
  drop(history, kept, places, left, tonumber(count), now - age)
  -- The stream goes with the last of its events.
  local last = ms + age + 1
  if age == longest or redis.call('PEXPIRETIME', history) < last then
    redis.call('PEXPIREAT', history, string.format('%.0f', last))
  end
  return {id, later(prev, string.format('%.0f-0', began)), said}, event
end
