-- Since when a bucket lost nothing, its time, and where histories of it end. KEYS: 1 the bucket's mark, then each history and
-- what is noted of it. ARGV: 1 the run id.
local now = bucket_time(KEYS[1], clock())
local found = {since(KEYS[1], ARGV[1], now), now}
for at = 2, #KEYS, 2 do
  found[#found + 1] = end_of(KEYS[at], redis.call('HGET', KEYS[at + 1], '>'))
end
return found
