-- What topics have of values newer than some version. KEYS: the versions of topics' values. ARGV: for each, the version.
-- Gives, for each, how many are newer, and the newest one's version, or 0.
local found = {}
for at = 1, #KEYS do
  found[#found + 1] = redis.call('ZCOUNT', KEYS[at], '(' .. ARGV[at], '+inf')
  found[#found + 1] = redis.call('ZREVRANGE', KEYS[at], 0, 0, 'WITHSCORES')[2] or '0'
end
return found
