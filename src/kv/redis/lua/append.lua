-- Appends an event. KEYS: 1 the history; 2 the bucket's mark; 3 what is noted of the history; 4 the places of the event's type;
-- then for each peer its queue and the queue's state. ARGV: 1 the event; 2 its type; 3 events of the type to keep; 4 for how
-- long, in ms; 5 for how long any type is kept; 6 the run id; 7 how many of the type are
-- shown a second, less than 0 if this one is in any case, 0 if all are; then, if there are peers, 8 the channel; 9 the bucket;
-- 10 the bytes that may wait for a peer; 11 what an event costs beside its text; 12 for how long it waits, in ms.
return append(5, 0, clock())
