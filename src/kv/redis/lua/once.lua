-- Events that are published once. The hash has by each key when it came, what its body was, and the event's id; the sorted set
-- has the keys by when they came. What is known of a key: 'again' and the id, or 'other' where the body was another one.
local function repeated(hash, key, body, age, now)
  local held = redis.call('HGET', hash, key)
  if not held then return nil end
  local at, before, id = string.match(held, '^(%d+) (%S+) (.*)$')
  if tonumber(at) + age <= now then return nil end
  if before ~= body then return {'other', ''} end
  return {'again', id}
end
-- Keeps a key, and forgets of the oldest what is too old or too many.
local function keep(hash, order, key, body, id, age, most, now)
  redis.call('HSET', hash, key, string.format('%.0f %s %s', now, body, id))
  redis.call('ZADD', order, string.format('%.0f', now), key)
  for _ = 1, 2 do
    local oldest = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')
    if tonumber(oldest[2]) + age > now and redis.call('ZCARD', order) <= most then break end
    redis.call('HDEL', hash, oldest[1])
    redis.call('ZREM', order, oldest[1])
  end
  redis.call('PEXPIRE', hash, string.format('%.0f', age))
  redis.call('PEXPIRE', order, string.format('%.0f', age))
end
