-- Takes a lock, or keeps the one that is held. KEYS: 1 the lock. ARGV: 1 who, 2 for how long, in ms.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
