-- wrk: the same event again and again.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"type":"like","key":"like","data":{"member":"ana","reaction":"like","likes":1}}'
