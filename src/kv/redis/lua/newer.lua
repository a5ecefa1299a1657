-- What topics have of values newer than some version. KEYS: the versions of topics' values. ARGV: for each, the version.
-- Gives, for each, how far those are beyond it, added up, and the newest one's version, or 0. The sum stays below 2^53: there
-- are a thousand values at most, and versions are times in ms.
local found = {}
for at = 1, #KEYS do
  local beyond = 0
  local newer = redis.call('ZRANGEBYSCORE', KEYS[at], '(' .. ARGV[at], '+inf', 'WITHSCORES')
  for place = 2, #newer, 2 do
    beyond = beyond + tonumber(newer[place]) - tonumber(ARGV[at])
  end
  found[#found + 1] = string.format('%.0f', beyond)
  found[#found + 1] = redis.call('ZREVRANGE', KEYS[at], 0, 0, 'WITHSCORES')[2] or '0'
end
return found
