-- What waits for a peer, less what it has and what is too old. Gives the queue's epoch, how many were given up since this
-- was asked last, 1 if more wait, and the oldest, each with its number. KEYS: 1 the queue; 2 its state. ARGV: 1 the epoch
-- of which the peer has something, or empty; 2 the first number that it lacks; 3 for how long events wait, in ms; 4 how
-- many to give; 5 bytes past which fewer are given.
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then return {0, 0, 0, {}} end
if ARGV[1] == epoch then redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[2]) end
give_up(KEYS[1], KEYS[2], clock() - tonumber(ARGV[3]))
local lost = tonumber(redis.call('HGET', KEYS[2], 'lost') or '0')
if lost > 0 then redis.call('HDEL', KEYS[2], 'lost') end
local count, most, found, bytes = tonumber(ARGV[4]), tonumber(ARGV[5]), {}, 0
local from, full = '-', false
while not full do
  -- In small slices: most of one that is cut off would have been read for nothing.
  local slice = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 16)
  for _, entry in ipairs(slice) do
    bytes = bytes + #entry[2][2]
    if #found == count or (#found > 0 and bytes > most) then
      full = true
      break
    end
    found[#found + 1] = {entry[1], entry[2][2]}
  end
  if #slice < 16 then break end
  from = '(' .. slice[#slice][1]
end
return {epoch, lost, full and 1 or 0, found}
