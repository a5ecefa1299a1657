-- Removes a slice of what a node wanted of a bucket. Gives 1 when more is left, 0 when all is gone or the node is back.
-- KEYS: 1 each node's last batch number and digest; 2 the topics that the node wanted.
-- ARGV: 1 the node; 2 what precedes a topic in the key of its set; 3 topics in a slice; 4 "1" in the first slice.
local node, prefix = ARGV[1], ARGV[2]
if ARGV[4] == '1' then
  -- From here on its digest differs from whatever it wants. So if it still lives, it sends all again, which ends this.
  redis.call('HSET', KEYS[1], node, 'swept')
elseif redis.call('HGET', KEYS[1], node) ~= 'swept' then
  return 0
end
local topics = redis.call('SPOP', KEYS[2], ARGV[3])
for _, topic in ipairs(topics) do
  redis.call('SREM', prefix .. topic, node)
end
if #topics == tonumber(ARGV[3]) then return 1 end
redis.call('HDEL', KEYS[1], node)
return 0
