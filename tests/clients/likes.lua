-- wrk: likes of one member each, so that all of them are stored and sent to viewers.
local thread_number = 0
local member = 0

function setup(thread)
  thread:set("number", thread_number)
  thread_number = thread_number + 1
end

function request()
  member = member + 1
  local body = string.format('{"member":"wrk-%d-%d","reaction":"like"}', number, member)
  return wrk.format("POST", "/v1/videos/wrk/likes", { ["Content-Type"] = "application/json" }, body)
end
