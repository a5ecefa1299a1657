-- KEYS: 1 leases, 2 what nodes say of themselves. ARGV: 1 the node.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
