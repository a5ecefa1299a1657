-- Gives up newest values whose time is over. Those that somebody watches are looked at again later. Gives 1 if there may be more.
-- KEYS: 1 the bucket's topics by when they are looked at; 2 their bytes. ARGV: 1 what precedes the names of the bucket's keys;
-- 2 how many topics; 3 after how long those that are watched are looked at again, in ms; 4 what the server's own expiry leaves
-- to whoever looks, in ms.
local prefix, most, now = ARGV[1], tonumber(ARGV[2]), clock()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, most)
for _, topic in ipairs(due) do
  if not is_watched(prefix, topic) then forget(prefix, KEYS[1], KEYS[2], topic) end
end
-- A server that is full takes nothing new, and what it need not keep is gone by now.
for _, topic in ipairs(due) do
  if redis.call('ZSCORE', KEYS[1], topic) then look_at(prefix, KEYS[1], topic, now + tonumber(ARGV[3]), tonumber(ARGV[4])) end
end
return #due == most and 1 or 0
