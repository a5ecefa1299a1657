-- Every script begins with this: Redis' time in Unix microseconds, and in milliseconds.
local function moment()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local function clock()
  return math.floor(moment() / 1000)
end

-- The time of a bucket with this mark: the server's, but never before the newest place that was given out there. A clock that
-- is set back, or a topic whose history expired meanwhile, makes no place that is older than one which somebody has.
local function bucket_time(mark, now)
  return math.max(now, tonumber(redis.call('GET', mark .. ':given') or 0))
end

-- Since when this bucket lost nothing. The mark names the server that set it by its run id, which is new at every start
-- and differs between servers. So the first script that runs on a server that restarted, or took over, sets it anew.
local function since(key, run, now)
  local ms, owner
  local held = redis.call('GET', key)
  if held then ms, owner = string.match(held, '^(%d+) (%S+)$') end
  if owner == run then return tonumber(ms) end
  local new = math.max(now, tonumber(ms or 0))
  redis.call('SET', key, string.format('%.0f %s', new, run))
  return new
end
