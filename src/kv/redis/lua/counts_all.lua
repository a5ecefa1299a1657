-- Puts a Frontend's counts that were gathered in place of those that it had, and tells every dispatcher to read them.
-- KEYS: 1 its counts; 2 the number of each Frontend's last change; 3 what was gathered.
-- ARGV: 1 the channel; 2 the node; 3 the change's number; 4 how many topics were gathered.
if tonumber(ARGV[3]) <= tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '0') then
  redis.call('UNLINK', KEYS[3])
  return 0
end
if redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[4]) then return redis.error_reply('ERR a part of the counts is gone') end
redis.call('UNLINK', KEYS[1])
redis.call('RENAME', KEYS[3], KEYS[1])
redis.call('PERSIST', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' r')
return 1
