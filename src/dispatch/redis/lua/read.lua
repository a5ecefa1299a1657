-- Reads history forward. Gives the bucket's time, since when it lost nothing, the place before the first entry, the newest
-- place that is known to be gone, and what was found. KEYS: 1 the history; 2 the bucket's mark; 3 what is noted of the history; 4
-- the places whose events were taken back. ARGV: 1 the first place wanted; 2 how many; 3 the run id.
local now = bucket_time(KEYS[2], clock())
local from = since(KEYS[2], ARGV[3], now)
local noted = drop_old(KEYS[1], KEYS[3], now)
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local found = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local before = first and first[2][4] or ''
if noted['!'] then
  -- What was taken back is not missing.
  local known = redis.call('HGET', KEYS[4], before)
  while known do
    before, known = known, redis.call('HGET', KEYS[4], known)
  end
end
-- Of a history without entries all is gone that was ever given out.
local gone = first and later(before, noted['<']) or noted['>'] or ''
return {now, from, before, gone, found}
