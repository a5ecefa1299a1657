-- Takes the text of events out of a stream, wherever it stands: one that was told again stands there twice. Looks at some
-- entries, newest first, and gives where to go on, or an empty text. KEYS: 1 the stream; of a history also 2 what is noted of
-- it; 3 the places whose events were taken back, each with the one before it; then for each event that it was taken back.
-- ARGV: 1 where to begin; 2 for how long such places are known, in ms; 3 for how long the events are refused, in ms; then how
-- each event begins.
if KEYS[2] and ARGV[1] == '+' then
  for at = 4, #KEYS do redis.call('SET', KEYS[at], 1, 'PX', ARGV[3]) end
  redis.call('HSET', KEYS[2], '!', 1)
end
-- Their ids have few lengths: an event is looked up once for each, however many are taken back.
local of_length = {}
for at = 4, #ARGV do
  local length = #ARGV[at]
  of_length[length] = of_length[length] or {}
  of_length[length][ARGV[at]] = true
end
local function is_one(event)
  for length, beginnings in pairs(of_length) do
    if beginnings[string.sub(event, 1, length)] then return true end
  end
  return false
end

local from, entries, bytes, found = ARGV[1], 0, 0, false
while entries < 512 and bytes < 1048576 do
  local slice = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', 32)
  for _, entry in ipairs(slice) do
    local event = entry[2][2]
    entries, bytes = entries + 1, bytes + #event
    if is_one(event) then
      found = true
      if KEYS[2] then redis.call('HSET', KEYS[3], entry[1], entry[2][4]) end
      redis.call('XDEL', KEYS[1], entry[1])
    end
  end
  from = #slice == 32 and '(' .. slice[#slice][1] or ''
  if from == '' then break end
end
if found and KEYS[2] then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
return from
