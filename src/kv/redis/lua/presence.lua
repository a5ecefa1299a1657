-- What is known of members. Gives now, and each as it was stored here, and elsewhere.
-- KEYS: 1 what is known here; 2 what is known elsewhere. ARGV: members.
return {clock(), redis.call('HMGET', KEYS[1], unpack(ARGV)), redis.call('HMGET', KEYS[2], unpack(ARGV))}
