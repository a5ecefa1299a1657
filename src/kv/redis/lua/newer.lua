-- What topics have of values newer than some version. KEYS: the versions of topics' values. ARGV: for each, the version; then from
-- where on versions are times. Gives, for each, how far those are beyond it, added up, the newest one's version, or 0, and the
-- versions that are no times, added up. The sums stay below 2^53: there are a thousand values at most, and versions are times
-- in ms.
local found = {}
local function sum(key, from, to, less)
  local sum = 0
  local versions = redis.call('ZRANGEBYSCORE', key, from, to, 'WITHSCORES')
  for place = 2, #versions, 2 do
    sum = sum + tonumber(versions[place]) - less
  end
  return string.format('%.0f', sum)
end
for at = 1, #KEYS do
  found[#found + 1] = sum(KEYS[at], '(' .. ARGV[at], '+inf', tonumber(ARGV[at]))
  found[#found + 1] = redis.call('ZREVRANGE', KEYS[at], 0, 0, 'WITHSCORES')[2] or '0'
  found[#found + 1] = sum(KEYS[at], '-inf', '(' .. ARGV[#KEYS + 1], 0)
end
return found
