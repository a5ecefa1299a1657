-- Appends an event to its topic's history, and to the queues of peers. Gives its place, and that of the one before it or an
-- empty text. The history is the first key and the bucket's mark the second; the queues of peers and their states begin at
-- KEYS[from], and what is said of the event at ARGV[arg + 1].
local function append(from, arg, now)
  local time = bucket_time(KEYS[2], now)
  since(KEYS[2], ARGV[arg + 4], time)
  local placed = put(KEYS[1], KEYS[2], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3], time)
  local first = false
  for at = from, #KEYS, 2 do
    local most, beside, age = tonumber(ARGV[arg + 7]), tonumber(ARGV[arg + 8]), tonumber(ARGV[arg + 9])
    if queue(KEYS[at], KEYS[at + 1], ARGV[arg + 1], now, most, beside, age) then first = true end
  end
  if first then redis.call('PUBLISH', ARGV[arg + 5], 'q ' .. ARGV[arg + 6]) end
  return placed
end
