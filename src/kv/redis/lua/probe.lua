-- KEYS: a key of a place that the server has. Writes what belongs to nobody, as scripts that matter write.
redis.call('SET', KEYS[1], '', 'PX', 60000)
return 1
