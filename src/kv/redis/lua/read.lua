-- Reads history forward. Gives the bucket's time, since when it lost nothing, the place before the first entry, the newest
-- place that is known to be gone, and what was found. KEYS: 1 the history; 2 the bucket's mark; 3 what is noted of the history.
-- ARGV: 1 the first place wanted; 2 how many; 3 the run id.
local now = bucket_time(KEYS[2], clock())
local from = since(KEYS[2], ARGV[3], now)
local noted = drop_old(KEYS[1], KEYS[3], now)
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local found = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local before = first and first[2][4] or ''
if noted['!'] then
  -- What was taken back is not missing. It is no key of the call, since few topics have it: while a slot moves a server answers
  -- nothing that names a key which is not there.
  local withdrawn = KEYS[1] .. ' withdrawn'
  local known = redis.call('HGET', withdrawn, before)
  while known do
    before, known = known, redis.call('HGET', withdrawn, known)
  end
end
-- Of a history without entries all is gone that was ever given out.
local gone = first and later(before, noted['<']) or noted['>'] or ''
return {now, from, before, gone, found}
