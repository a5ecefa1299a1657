-- News of a peer. Gives since when it was heard of without a break, in Unix microseconds; whenever that changes, its
-- viewers were dropped. KEYS: 1 what is known of peers, "<heard last> <clock ahead> <since> <lacked since> <lacked until>",
-- of which the last two are 0 for none; 2 the peer's viewers; 3 of a hello, the number of the newest of the shard that
-- said it. ARGV: 1 the channel; 2 the peer; 3 how far its clock is ahead, empty if it was not heard of; 4 since when it
-- lacks events, or empty; 5 a silence after which its viewers are dropped, in ms; 6 for how long a lack is remembered, in
-- ms; 7 "v" to tell the viewers that follow, "p" not to, "V" to tell that all are to be read; 8 "1" if what was said of
-- viewers before counts no more; 9 the number of the hello, of which nothing counts where a newer one came before; 10 for
-- how long it is remembered, in ms; then topics and their viewers.
local now = clock()
local silent = tonumber(ARGV[5])
local known = redis.call('HGET', KEYS[1], ARGV[2]) or ''
local heard, ahead, unbroken, from, til = string.match(known, '^(%d+) (%-?%d+) (%d+) (%d+) (%d+)$')
heard, ahead, unbroken = tonumber(heard or 0), ahead or '0', tonumber(unbroken or 0)
from, til = tonumber(from or 0), tonumber(til or 0)
if KEYS[3] then
  if tonumber(redis.call('GET', KEYS[3]) or 0) > tonumber(ARGV[9]) then return unbroken end
  redis.call('SET', KEYS[3], ARGV[9], 'PX', ARGV[10])
end
if ARGV[3] ~= '' then
  if heard + silent <= now or ARGV[8] == '1' then
    redis.call('UNLINK', KEYS[2])
    unbroken = math.max(moment(), unbroken + 1)
  end
  heard, ahead = now, ARGV[3]
end
if ARGV[4] ~= '' then
  local lacks = tonumber(ARGV[4])
  if til + tonumber(ARGV[6]) > now then lacks = math.min(lacks, from) end
  from, til = lacks, now
end
if ARGV[3] ~= '' or ARGV[4] ~= '' then
  local text = string.format('%.0f %s %.0f %.0f %.0f', heard, ahead, unbroken, from, til)
  redis.call('HSET', KEYS[1], ARGV[2], text)
end
set_viewers(KEYS[2], 11)
-- Not before they would be dropped for its silence.
if ARGV[3] ~= '' or #ARGV > 10 then redis.call('PEXPIRE', KEYS[2], string.format('%.0f', 2 * silent)) end
if (#ARGV > 10 or ARGV[8] == '1') and ARGV[7] ~= 'p' then
  local told = ARGV[7] .. ' ' .. ARGV[2]
  if ARGV[7] == 'v' then told = told .. ' ' .. table.concat(ARGV, ' ', 11) end
  redis.call('PUBLISH', ARGV[1], told)
end
return unbroken
