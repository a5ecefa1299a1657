-- KEYS: 1 leases, 2 what nodes say of themselves, 3 numbers of changes of counts, 4 the node's counts. ARGV: 1 the node.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('UNLINK', KEYS[4])
return 1
