-- wrk -s post.lua URL -- BODIES CONTENT_TYPE [files]: posts the lines of the file BODIES in turn, or with `files` what is
-- in the files that the lines name, and prints one line of JSON.
local requests, turn = {}, 0

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = args[2]
  for line in io.lines(args[1]) do
    local body = line
    if args[3] == "files" then
      local file = assert(io.open(line, "rb"))
      body = file:read("*a")
      file:close()
    end
    requests[#requests + 1] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "not_2xx": %d, "failed": %d, "timeouts": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write, e.timeout))
end
