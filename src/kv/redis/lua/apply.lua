-- Changes what a node wants of a bucket.
-- KEYS: 1 each node's last batch number and digest; 2 the topics that the node wants.
-- ARGV: 1 the node; 2 the batch's number; 3 "1" if it lists all; 4 what precedes a topic in the key of its set; then for
-- each topic: the topic, "1" if it is wanted, and the halves of its hash. No topic comes twice.
-- The keys of topics' sets have the same hash tag. They are built here since what a full batch removes is known only here.
local node, number, full, prefix = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local last, high, low = 0, 0, 0
local held = redis.call('HGET', KEYS[1], node)
if held then
  local a, b, c = string.match(held, '^(%d+) (%d+) (%d+)$')
  if a then last, high, low = tonumber(a), tonumber(b), tonumber(c) end
end
if number <= last then return 0 end
local known = {}
if full then
  local listed = {}
  for at = 5, #ARGV, 4 do
    listed[ARGV[at]] = ARGV[at + 1] == '1'
  end
  for _, topic in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if listed[topic] then
      -- It is in both sets, which change together: so a long list costs little more than what differs.
      known[topic] = true
    else
      redis.call('SREM', KEYS[2], topic)
      redis.call('SREM', prefix .. topic, node)
    end
  end
  high, low = 0, 0
end
for at = 5, #ARGV, 4 do
  local topic, wanted = ARGV[at], ARGV[at + 1] == '1'
  local changed = false
  if not known[topic] then
    local command = wanted and 'SADD' or 'SREM'
    changed = redis.call(command, KEYS[2], topic) == 1
    redis.call(command, prefix .. topic, node)
  end
  if (full and wanted) or (not full and changed) then
    high = bit.bxor(high, tonumber(ARGV[at + 2])) % 4294967296
    low = bit.bxor(low, tonumber(ARGV[at + 3])) % 4294967296
  end
end
redis.call('HSET', KEYS[1], node, string.format('%s %.0f %.0f', ARGV[2], high, low))
return 1
