-- The newest values of a topic. Gives now, and the values as they were stored. KEYS: 1 the topic's values.
return {clock(), redis.call('HVALS', KEYS[1])}
