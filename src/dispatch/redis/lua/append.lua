-- Appends an event to its topic's history, and to the queues of peers. Gives its place, and that of the one before it or an
-- empty text. KEYS: 1 the history; 2 the bucket's mark; then for each peer its queue and the queue's state.
-- ARGV: 1 the event; 2 events to keep; 3 for how long, in ms; 4 the run id; then, if there are peers, 5 the channel; 6 the
-- bucket; 7 the bytes that may wait for a peer; 8 what an event costs beside its text; 9 for how long it waits, in ms.
local now = clock()
since(KEYS[2], ARGV[4], now)
local placed = put(KEYS[1], ARGV[1], ARGV[2], ARGV[3], now)
local first = false
for at = 3, #KEYS, 2 do
  local most, beside, age = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
  if queue(KEYS[at], KEYS[at + 1], ARGV[1], now, most, beside, age) then first = true end
end
if first then redis.call('PUBLISH', ARGV[5], 'q ' .. ARGV[6]) end
return placed
