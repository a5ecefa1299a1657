-- Appends an event. KEYS: 1 the history; 2 the bucket's mark; then for each peer its queue and the queue's state.
-- ARGV: 1 the event; 2 events to keep; 3 for how long, in ms; 4 the run id; then, if there are peers, 5 the channel; 6 the
-- bucket; 7 the bytes that may wait for a peer; 8 what an event costs beside its text; 9 for how long it waits, in ms.
return append(3, 0, clock())
