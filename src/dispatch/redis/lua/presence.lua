-- What is known of members. Gives now, and each as it was stored. KEYS: 1 what is known. ARGV: members.
return {clock(), redis.call('HMGET', KEYS[1], unpack(ARGV))}
