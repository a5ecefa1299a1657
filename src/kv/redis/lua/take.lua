-- Puts a peer's events into histories, each once however often it comes, and notes how far that queue was taken. Gives the
-- place of each as `append.lua` does, or nothing for one that was taken before, or taken back. KEYS: 1 the bucket's mark; 2 how far the
-- peer's queue was taken, "<epoch> <number>", and the one that it had before the same way: a request of that may still be
-- under way; then for each topic and type the history, what is noted of it, and the places of the type. ARGV: 1 the run id; 2
-- the queue's epoch; 3 for how long to know how far it was taken, in ms; 4 for how long any type is kept; then for each event:
-- which key its history is, its number in two parts, the event, its type, events of the type to keep, for how long in ms.
local now = bucket_time(KEYS[1], clock())
local began = since(KEYS[1], ARGV[1], now)
local ms, seq, other = 0, 0, ''
local at_end = false
for epoch, a, b in string.gmatch(redis.call('GET', KEYS[2]) or '', '(%d+) (%d+)-(%d+)') do
  if epoch == ARGV[2] then
    ms, seq, at_end = tonumber(a), tonumber(b), other ~= ''
  elseif other == '' then
    other = string.format('%s %s-%s', epoch, a, b)
  end
end
local placed = {}
for at = 5, #ARGV, 7 do
  local a, b = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if a > ms or (a == ms and b > seq) then
    ms, seq = a, b
    local which = tonumber(ARGV[at])
    placed[#placed + 1] = put(KEYS[which], KEYS[1], KEYS[which + 1], KEYS[which + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5],
      ARGV[at + 6], ARGV[4], now, began, 0) or {}
  else
    placed[#placed + 1] = {}
  end
end
local this = string.format('%s %.0f-%.0f', ARGV[2], ms, seq)
redis.call('SET', KEYS[2], at_end and other .. ' ' .. this or this .. ' ' .. other, 'PX', ARGV[3])
return placed
