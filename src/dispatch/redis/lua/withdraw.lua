-- Takes the text of an event out of a stream, wherever it stands: one that was told again stands there twice. Looks at some
-- entries, newest first, and gives where to go on, or an empty text. KEYS: 1 the stream; of a history also 2 what is noted of
-- it; 3 the places whose events were taken back, each with the one before it; 4 that this event was taken back. ARGV: 1 how the
-- event begins; 2 where to begin; 3 for how long such places are known, in ms; 4 for how long the event is refused, in ms.
if KEYS[2] then
  redis.call('SET', KEYS[4], 1, 'PX', ARGV[4])
  redis.call('HSET', KEYS[2], '!', 1)
end
local from, entries, bytes = ARGV[2], 0, 0
while entries < 512 and bytes < 1048576 do
  local slice = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', 16)
  for _, entry in ipairs(slice) do
    local event = entry[2][2]
    entries, bytes = entries + 1, bytes + #event
    if string.sub(event, 1, #ARGV[1]) == ARGV[1] then
      if KEYS[2] then
        redis.call('HSET', KEYS[3], entry[1], entry[2][4])
        redis.call('PEXPIRE', KEYS[3], ARGV[3])
      end
      redis.call('XDEL', KEYS[1], entry[1])
    end
  end
  if #slice < 16 then return '' end
  from = '(' .. slice[#slice][1]
end
return from
