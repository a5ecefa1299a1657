-- Reads history forward. Gives the bucket's time, since when it lost nothing, the first entry's place and the one before that, and what was found.
-- KEYS: 1 the history; 2 the bucket's mark. ARGV: 1 the first place wanted; 2 how many; 3 the run id.
local now = bucket_time(KEYS[2], clock())
local from = since(KEYS[2], ARGV[3], now)
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local found = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
return {now, from, first and first[1] or '', first and first[2][4] or '', found}
