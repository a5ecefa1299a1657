-- Turns that were published. Others of the same members, older or newer, do not count.
-- KEYS: 1 what is known of members; 2 whose last turn is not settled. ARGV: members, each followed by the turn's version.
for at = 1, #ARGV, 2 do
  local held = redis.call('HGET', KEYS[1], ARGV[at])
  if held and string.match(held, '%d+$') == ARGV[at + 1] then redis.call('ZREM', KEYS[2], ARGV[at]) end
end
return 1
