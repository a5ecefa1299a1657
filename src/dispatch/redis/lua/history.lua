-- Puts an event into a topic's history, which keeps so many, for so many ms. Gives its place, and that of the one before it
-- or an empty text. `now` is the time of the bucket with this mark.
local function put(history, mark, event, count, age, now)
  local ms, seq, prev = now, 1, ''
  local last = redis.call('XREVRANGE', history, '+', '-', 'COUNT', 1)[1]
  if last then
    prev = last[1]
    local a, b = string.match(prev, '^(%d+)-(%d+)$')
    if tonumber(a) >= now then ms, seq = tonumber(a), tonumber(b) + 1 end
  end
  local id = string.format('%.0f-%.0f', ms, seq)
  redis.call('SET', mark .. ':given', string.format('%.0f', ms))
  -- Each entry names the one before it: so whoever reads the first one that is left knows what was trimmed last.
  redis.call('XADD', history, 'MAXLEN', '=', count, id, 'e', event, 'p', prev)
  redis.call('XTRIM', history, 'MINID', '=', string.format('%.0f', math.max(0, now - tonumber(age))))
  redis.call('PEXPIREAT', history, string.format('%.0f', ms + tonumber(age) + 1))
  return {id, prev}
end
