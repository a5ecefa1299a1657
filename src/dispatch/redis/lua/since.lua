-- KEYS: 1 the bucket's mark. ARGV: 1 the server's run id.
return since(KEYS[1], ARGV[1], bucket_time(KEYS[1], clock()))
