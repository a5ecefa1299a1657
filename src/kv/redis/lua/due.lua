-- Members whose last sign of life is too long ago go offline; turns that nobody settled are given again. Gives each as
-- name, 1 if online, since when or last seen, version.
-- KEYS: 1 what is known of members, "<1 if online> <since when, or last seen> <version>"; 2 who is online, by when that
-- ends; 3 who is not, by when they were last seen; 4 whose last turn is not settled, by when it was given; 5 what is known of
-- members elsewhere; 6 who is online nowhere there, by when they were last seen.
-- ARGV: 1 how long a sign counts; 2 how long a turn may stay unsettled; 3 for how long members are known; all in ms; 4 how
-- many at most; 5 how many are forgotten at once.
local now, most = clock(), tonumber(ARGV[4])
local turned = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
for at = 1, #due, 2 do
  local member, seen = due[at], tonumber(due[at + 1]) - tonumber(ARGV[1])
  local held = redis.call('HGET', KEYS[1], member)
  local version = math.max(now, (held and tonumber(string.match(held, '%d+$')) or 0) + 1)
  redis.call('ZREM', KEYS[2], member)
  redis.call('HSET', KEYS[1], member, string.format('0 %.0f %.0f', seen, version))
  redis.call('ZADD', KEYS[3], seen, member)
  redis.call('ZADD', KEYS[4], now, member)
  turned[#turned + 1] = {member, 0, seen, version}
end
if #turned < most then
  local late = now - tonumber(ARGV[2])
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', late, 'LIMIT', 0, most - #turned)) do
    local online, at, version = string.match(redis.call('HGET', KEYS[1], member) or '', '^(%d) (%d+) (%d+)$')
    if online then
      redis.call('ZADD', KEYS[4], now, member)
      turned[#turned + 1] = {member, tonumber(online), tonumber(at), tonumber(version)}
    else
      redis.call('ZREM', KEYS[4], member)
    end
  end
end
local function forget(seen, known)
  local old = redis.call('ZRANGEBYSCORE', seen, '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, ARGV[5])
  if #old > 0 then
    redis.call('ZREM', seen, unpack(old))
    redis.call('HDEL', known, unpack(old))
  end
  return old
end
local old = forget(KEYS[3], KEYS[1])
if #old > 0 then redis.call('ZREM', KEYS[4], unpack(old)) end
forget(KEYS[6], KEYS[5])
return turned
