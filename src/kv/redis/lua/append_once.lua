-- Appends an event, unless its key is known. KEYS: 1 to 4 as for any append; 5 and 6 the keys of events; then as for any
-- append. ARGV: 1 the key; 2 the body; 3 the event's id; 4 for how long it is known, in ms; 5 how many keys are kept; then as
-- for any append.
local now = clock()
local age = tonumber(ARGV[4])
local known = repeated(KEYS[5], ARGV[1], ARGV[2], age, now)
if known then return known end
local placed = append(7, 5, now)
keep(KEYS[5], KEYS[6], ARGV[1], ARGV[2], ARGV[3], age, tonumber(ARGV[5]), now)
return placed
