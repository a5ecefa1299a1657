-- Appends an event to its topic's history, and to the queues of peers. Gives what `put` gives; of one that was taken back before it came, the same as of one that is known by its key. The first four keys are as `append.lua` names them; the queues of peers and their states begin at KEYS[from], and
-- what is said of the event at ARGV[arg + 1].
local function append(from, arg, now)
  local time = bucket_time(KEYS[2], now)
  local began = since(KEYS[2], ARGV[arg + 6], time)
  local event = ARGV[arg + 1]
  local placed, said =
    put(KEYS[1], KEYS[2], KEYS[3], KEYS[4], event, ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4], ARGV[arg + 5], time,
      began, tonumber(ARGV[arg + 7]))
  if not placed then return {'again', said} end
  event = said
  local first = false
  for at = from, #KEYS, 2 do
    local most, beside, age = tonumber(ARGV[arg + 10]), tonumber(ARGV[arg + 11]), tonumber(ARGV[arg + 12])
    if queue(KEYS[at], KEYS[at + 1], event, now, most, beside, age) then first = true end
  end
  if first then redis.call('PUBLISH', ARGV[arg + 8], 'q ' .. ARGV[arg + 9]) end
  return placed
end
