-- Keeps the newest value of a field. Gives its version, and 1 if it is the newest.
-- KEYS: 1 the topic's values; 2 their versions. ARGV: 1 the field; 2 the event; 3 its version, or empty; 4 the name of
-- the data center that gave it, or is given it now; 5 for how long values are kept, in ms; 6 how many.
-- A value is "<version> <set at> <length of that name>:<that name><event>". Nodes of older versions gave their own values no
-- name.
local now = clock()
local field, origin = ARGV[1], ARGV[4]
local version, name = 0, ''
local held = redis.call('HGET', KEYS[1], field)
if held then
  local a, b, at = string.match(held, '^(%d+) %d+ (%d+):()')
  version, name = tonumber(a), string.sub(held, at, at + tonumber(b) - 1)
end
-- By bytes: Lua's own comparison depends on the server's locale.
local function at_least(one, other)
  for at = 1, math.min(#one, #other) do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then return a > b end
  end
  return #one >= #other
end
local new = ARGV[3] == '' and math.max(now, version + 1) or tonumber(ARGV[3])
if held and (version > new or (version == new and at_least(name, origin))) then return {new, 0} end
if not held and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if oldest then
    redis.call('HDEL', KEYS[1], oldest)
    redis.call('ZREM', KEYS[2], oldest)
  end
end
redis.call('HSET', KEYS[1], field, string.format('%.0f %.0f %d:', new, now, #origin) .. origin .. ARGV[2])
redis.call('ZADD', KEYS[2], new, field)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {new, 1}
