-- Changes viewers by what the script's arguments say from this one on: topics and their numbers; 0 is none any more.
local function set_viewers(key, first)
  for at = first, #ARGV, 2 do
    if ARGV[at + 1] == '0' then
      redis.call('HDEL', key, ARGV[at])
    else
      redis.call('HSET', key, ARGV[at], ARGV[at + 1])
    end
  end
end
