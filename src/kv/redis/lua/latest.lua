-- The newest values of a topic. Gives now, whether somebody watches it, and the values as they were stored. KEYS: 1 the topic's
-- values; 2 the nodes that want it.
return {clock(), redis.call('EXISTS', KEYS[2]), redis.call('HVALS', KEYS[1])}
