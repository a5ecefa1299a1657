-- Appends an event to its topic's history. Gives its place, and that of the one before it or an empty text.
-- KEYS: 1 the history; 2 the bucket's mark. ARGV: 1 the event; 2 events to keep; 3 for how long, in ms; 4 the run id.
local now = clock()
since(KEYS[2], ARGV[4], now)
local ms, seq, prev = now, 1, ''
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then
  prev = last[1]
  local a, b = string.match(prev, '^(%d+)-(%d+)$')
  if tonumber(a) >= now then ms, seq = tonumber(a), tonumber(b) + 1 end
end
local id = string.format('%.0f-%.0f', ms, seq)
-- Each entry names the one before it: so whoever reads the first one that is left knows what was trimmed last.
redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[2], id, 'e', ARGV[1], 'p', prev)
redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%.0f', math.max(0, now - tonumber(ARGV[3]))))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ms + tonumber(ARGV[3]) + 1))
return {id, prev}
