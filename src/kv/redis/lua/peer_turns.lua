-- Turns of a peer's members. Gives now, and for each turn that is news what is known of the member here and elsewhere, as
-- it was stored; nothing for the others. KEYS: 1 what is known of members here; 2 what is known of them elsewhere, for each
-- data center "<its name> <1 if online> <since when, or last seen> <version>"; 3 who is online nowhere there, by when they
-- were last seen. ARGV: 1 the peer; then for each turn: member, 1 if online, since when or last seen, version.
local news = {}
for at = 2, #ARGV, 4 do
  local member, seen = ARGV[at], 0
  local turn = table.concat(ARGV, ' ', at + 1, at + 3)
  local said, is_news, online = {}, true, ARGV[at + 1] == '1'
  for dc, flag, when, version in string.gmatch(redis.call('HGET', KEYS[2], member) or '', '(%S+) (%d) (%d+) (%d+)') do
    if dc ~= ARGV[1] then
      said[#said + 1] = string.format('%s %s %s %s', dc, flag, when, version)
      online = online or flag == '1'
      seen = math.max(seen, tonumber(when))
    elseif tonumber(version) >= tonumber(ARGV[at + 3]) then
      is_news = false
    end
  end
  news[#news + 1] = is_news
  if is_news then
    said[#said + 1] = ARGV[1] .. ' ' .. turn
    redis.call('HSET', KEYS[2], member, table.concat(said, ' '))
    if online then
      redis.call('ZREM', KEYS[3], member)
    else
      redis.call('ZADD', KEYS[3], string.format('%.0f', math.max(seen, tonumber(ARGV[at + 2]))), member)
    end
  end
end
local found = {}
for number, is_news in ipairs(news) do
  local member = ARGV[4 * number - 2]
  found[number] = is_news and {redis.call('HGET', KEYS[1], member) or '', redis.call('HGET', KEYS[2], member) or ''} or {}
end
return {clock(), found}
