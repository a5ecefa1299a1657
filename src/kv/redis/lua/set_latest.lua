-- Keeps the newest value of a field. Gives its version, and 1 if it is the newest.
-- KEYS: 1 the topic's values; 2 their versions; 3 the bucket's topics by when they are looked at; 4 their bytes.
-- ARGV: 1 the field; 2 the event; 3 its version, or empty; 4 the name of the data center that gave it, or is given it now;
-- 5 for how long it is kept while nobody watches, in ms; 6 how many; 7 the topic; 8 what precedes the names of the bucket's
-- keys; 9 for how long values are kept that say nothing else; 10 the bytes that the bucket's values may take; 11 how many
-- topics are looked at, or given up, for one value; 12 what the server's own expiry leaves to whoever looks, in ms.
-- A value is "<version> <until> <length of that name>:<that name><event>", where `until` is when it is given up while nobody
-- watches, less ARGV[9]. Nodes of older versions wrote when it was set there, and gave their own values no name.
local now = clock()
local field, origin, age, topic, prefix = ARGV[1], ARGV[4], tonumber(ARGV[5]), ARGV[7], ARGV[8]
local usual, most, near, spare = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local ends, sizes = KEYS[3], KEYS[4]
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

local function drop(oldest)
  grow(sizes, topic, -value_bytes(oldest, redis.call('HSTRLEN', KEYS[1], oldest)))
  redis.call('HDEL', KEYS[1], oldest)
  redis.call('ZREM', KEYS[2], oldest)
end
local count = redis.call('HLEN', KEYS[1])
if count == 0 or not redis.call('HGET', sizes, topic) then
  -- Its keys went by themselves, or a node of an older version made them.
  if count == 0 then forget(prefix, ends, sizes, topic) end
  grow(sizes, topic, TOPIC_BYTES + 4 * #topic)
end
if not held and count >= tonumber(ARGV[6]) then
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if oldest then drop(oldest) end
end
local value = string.format('%.0f %.0f %d:', new, now + age - usual, #origin) .. origin .. ARGV[2]
redis.call('HSET', KEYS[1], field, value)
redis.call('ZADD', KEYS[2], new, field)
grow(sizes, topic, value_bytes(field, #value) - (held and value_bytes(field, #held) or 0))

local until_ms = now + age
if age < usual and count <= 16 then
  -- The others of the topic may stay for longer.
  for _, other in ipairs(redis.call('HVALS', KEYS[1])) do
    until_ms = math.max(until_ms, tonumber(string.match(other, '^%d+ (%d+) ')) + usual)
  end
else
  until_ms = math.max(until_ms, tonumber(redis.call('ZSCORE', ends, topic) or 0))
end
look_at(prefix, ends, topic, until_ms, spare)

-- Too many bytes: topics go that would be given up first, those that nobody watches before others, and of this one its oldest
-- values. So much goes that it need not be done again at once.
local total = tonumber(redis.call('HGET', sizes, ''))
if total <= most then return {new, 1} end
for _ = 1, near do
  local gone, nobodys
  for _, other in ipairs(redis.call('ZRANGE', ends, 0, near - 1)) do
    if other ~= topic and not nobodys then
      gone = gone or other
      if not is_watched(prefix, other) then nobodys = other end
    end
  end
  gone = nobodys or gone
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if gone then
    forget(prefix, ends, sizes, gone)
  elseif oldest and oldest ~= field then
    drop(oldest)
  else
    break
  end
  if tonumber(redis.call('HGET', sizes, '')) <= most / 64 * 63 then break end
end
return {new, 1}
