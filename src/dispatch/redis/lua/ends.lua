-- Where histories of a bucket end. KEYS: 1 the bucket's mark, then the histories. ARGV: 1 the run id.
local found = {since(KEYS[1], ARGV[1], clock())}
for at = 2, #KEYS do
  local last = redis.call('XREVRANGE', KEYS[at], '+', '-', 'COUNT', 1)[1]
  found[at] = last and last[1] or ''
end
return found
