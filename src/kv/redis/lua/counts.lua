-- Changes a Frontend's counts, and tells every dispatcher. Gives 0 where that was too late, or one before it is missing.
-- KEYS: 1 its counts; 2 the number of each Frontend's last change. ARGV: 1 the channel; 2 the node; 3 the change's number;
-- 4 "f" if it lists all, "d" if not, "p" for a part of one that goes on, "r" for the last part of one; then topics and
-- their counts. Parts may be seen before the last of them is there: each count in them is newer than what it replaces.
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '0')
local number, kind = tonumber(ARGV[3]), ARGV[4]
if number <= held or (kind ~= 'f' and number ~= held + 1) then return 0 end
if kind == 'f' then redis.call('UNLINK', KEYS[1]) end
set_viewers(KEYS[1], 5)
if kind == 'p' then return 1 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
-- Of one that came in parts, who listens reads all.
redis.call('PUBLISH', ARGV[1], table.concat(ARGV, ' ', 2, kind == 'r' and 4 or #ARGV))
return 1
