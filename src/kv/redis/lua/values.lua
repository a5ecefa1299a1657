-- What is kept of newest values. Beside a topic's values and their versions a bucket has a sorted set of its topics by when
-- each is looked at next, and a hash of the bytes that each takes, and under an empty name those of all. So what is taken off
-- a sum is always what was put onto it. The keys of a topic are built here, since which topics go is known only here; they
-- have the hash tag of those that are given.

-- What a topic costs beside its name, which is in four keys, and what a value costs beside its text and its name, which is in
-- two.
local TOPIC_BYTES, VALUE_BYTES = 400, 100

local function value_bytes(field, length)
  return VALUE_BYTES + 2 * #field + length
end

-- The topic's values take so many bytes more.
local function grow(sizes, topic, bytes)
  redis.call('HINCRBY', sizes, topic, bytes)
  redis.call('HINCRBY', sizes, '', bytes)
end

local function forget(prefix, ends, sizes, topic)
  redis.call('UNLINK', prefix .. 'l:' .. topic, prefix .. 'v:' .. topic)
  redis.call('ZREM', ends, topic)
  local bytes = redis.call('HGET', sizes, topic)
  if bytes then
    redis.call('HDEL', sizes, topic)
    redis.call('HINCRBY', sizes, '', -tonumber(bytes))
  end
end

-- Nodes want it: dead ones too, for a minute.
local function is_watched(prefix, topic)
  return redis.call('EXISTS', prefix .. 's:' .. topic) == 1
end

-- The topic is looked at then. If nobody sees to that its keys go all the same, `spare` ms later.
local function look_at(prefix, ends, topic, at, spare)
  redis.call('ZADD', ends, string.format('%.0f', at), topic)
  redis.call('PEXPIREAT', prefix .. 'l:' .. topic, string.format('%.0f', at + spare))
  redis.call('PEXPIREAT', prefix .. 'v:' .. topic, string.format('%.0f', at + spare))
end
