-- Topics of a bucket that begin so, whose newest event lies behind a place: since when the bucket lost nothing, its time, then
-- each topic and the place of its newest event. KEYS: 1 the bucket's mark. ARGV: 1 the run id; 2 what they begin with; 3 the
-- place; 4 what precedes a topic in the key of its history; 5 how far the index may be behind, in ms.
local now = bucket_time(KEYS[1], clock())
local found = {since(KEYS[1], ARGV[1], now), now}
local begin, after = ARGV[2], ARGV[3]
local from = numbers(after) - tonumber(ARGV[5])
local topics = redis.call('ZRANGEBYSCORE', KEYS[1] .. ':topics', string.format('%.0f', from), '+inf')
for _, topic in ipairs(topics) do
  if string.sub(topic, 1, #begin) == begin then
    local history = ARGV[4] .. topic
    local place = end_of(history, redis.call('HGET', history .. ' kept', '>'))
    if place ~= '' and place ~= after and later(place, after) == place then
      found[#found + 1] = topic
      found[#found + 1] = place
    end
  end
end
return found
