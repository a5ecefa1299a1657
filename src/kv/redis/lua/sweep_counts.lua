-- Removes a Frontend's counts unless its lease holds. From then on its number differs from what it says. So if it still
-- lives, it sends all again. KEYS: 1 leases, by their end; 2 numbers of changes; 3 its counts. ARGV: 1 the node.
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if lease and tonumber(lease) >= clock() then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[3])
return 1
