-- Renews a node's lease and lists the nodes whose lease holds. Gives the number of its last change of counts, too,
-- and what is known of peers.
-- KEYS: 1 leases, by their end; 2 what nodes say of themselves; 3 since when leases can be believed; 4 the
-- number of each Frontend's last change of its counts; 5 what is known of peers.
-- ARGV: 1 the node, empty to list only; 2 what it says of itself; 3 the lease in ms; 4 the server's run id; 5 how long
-- dead nodes are remembered, in ms.
local now = clock()
local ms, owner
local held = redis.call('GET', KEYS[3])
if held then ms, owner = string.match(held, '^(%d+) (%S+)$') end
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
-- A server that is new, or empty, or that no node reached for a whole lease, knows nothing of who is dead.
if owner ~= ARGV[4] or not newest or tonumber(newest) < now then
  ms = now
  redis.call('SET', KEYS[3], string.format('%.0f %s', now, ARGV[4]))
end
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[5]), 'LIMIT', 0, 100)
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.call('HDEL', KEYS[2], unpack(gone))
end
local live = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
local said = {}
-- In slices, since Lua passes some thousand arguments at most.
for at = 1, #live, 1000 do
  for _, text in ipairs(redis.call('HMGET', KEYS[2], unpack(live, at, math.min(at + 999, #live)))) do
    if text then said[#said + 1] = text end
  end
end
return {now, tonumber(ms), said, tonumber(redis.call('HGET', KEYS[4], ARGV[1]) or '0'), redis.call('HGETALL', KEYS[5])}
