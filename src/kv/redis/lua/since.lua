-- KEYS: 1 the bucket's mark. ARGV: 1 the server's run id; 2 "lost" if the bucket may have lost something now.
if ARGV[2] == 'lost' then redis.call('DEL', KEYS[1]) end
return since(KEYS[1], ARGV[1], bucket_time(KEYS[1], clock()))
