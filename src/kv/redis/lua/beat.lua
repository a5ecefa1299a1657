-- Signs of life. Gives those who came online by it, each as name, since when, version.
-- KEYS: 1 what is known of members, "<1 if online> <since when, or last seen> <version>"; 2 who is online, by when that
-- ends; 3 who is not, by when they were last seen; 4 whose last turn is not settled, by when it was given.
-- ARGV: 1 how long a sign counts, in ms; then members, nobody twice.
local now = clock()
local ends = now + tonumber(ARGV[1])
local scores, turned = {}, {}
for at, score in ipairs(redis.call('ZMSCORE', KEYS[2], unpack(ARGV, 2))) do
  local member = ARGV[at + 1]
  scores[#scores + 1] = ends
  scores[#scores + 1] = member
  if not score then
    local held = redis.call('HGET', KEYS[1], member)
    local version = math.max(now, (held and tonumber(string.match(held, '%d+$')) or 0) + 1)
    redis.call('HSET', KEYS[1], member, string.format('1 %.0f %.0f', now, version))
    redis.call('ZREM', KEYS[3], member)
    redis.call('ZADD', KEYS[4], now, member)
    turned[#turned + 1] = {member, now, version}
  end
end
redis.call('ZADD', KEYS[2], unpack(scores))
return turned
