-- Since when a bucket lost nothing, its time, and where histories of it end. KEYS: 1 the bucket's mark, then the histories. ARGV: 1 the run id.
local now = bucket_time(KEYS[1], clock())
local found = {since(KEYS[1], ARGV[1], now), now}
for at = 2, #KEYS do
  local last = redis.call('XREVRANGE', KEYS[at], '+', '-', 'COUNT', 1)[1]
  found[at + 1] = last and last[1] or ''
end
return found
