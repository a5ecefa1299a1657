-- Keeps the key of an event that goes to no history, unless it is known; or, where ARGV[6] says so, forgets it again. KEYS: 1 and
-- 2 the keys of events. ARGV: 1 the key; 2 the body; 3 the event's id; 4 for how long it is known, in ms; 5 how many are kept.
local now = clock()
local age = tonumber(ARGV[4])
local known = repeated(KEYS[1], ARGV[1], ARGV[2], age, now)
if ARGV[6] == 'release' then
  if known and known[2] == ARGV[3] then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
  end
  return {'new', ''}
end
if known then return known end
keep(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], age, tonumber(ARGV[5]), now)
return {'new', ''}
