#!/usr/bin/env bash
# Keeps a server under load and watches it: no failed request, memory that does not grow, a quick /health all the while.
# usage: scripts/soak_serve.sh MODEL [MINUTES=10] [STREAMS=64] [REQUESTS=10000]
# Runs until MINUTES are over and REQUESTS are answered. Prints a line a minute and the verdict; exit code 1 where one of the three goals is missed.
source "$(dirname "$0")/common.sh"

model=${1:?usage: soak_serve.sh MODEL [MINUTES] [STREAMS] [REQUESTS]} minutes=${2:-10} streams=${3:-64} wanted=${4:-10000}
program=${LLAMA2ZH:-$root/build/llama2zh}
folder=$(mktemp -d)
"$program" serve --model "$model" --port 0 --access-log none --max-running "$streams" 2> "$folder/server.log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$folder"' EXIT
until grep -q 'ready after' "$folder/server.log"; do
  kill -0 "$server" 2>/dev/null || { cat "$folder/server.log" >&2; die "the server did not start"; }
  sleep 0.2
done
port=$(sed -n 's|.*listening at http://[^ ]*:\([0-9]*\);.*|\1|p' "$folder/server.log")
resident() { awk '/^VmRSS/{print $2}' "/proc/$server/status"; }

# /health, ten times a second, in milliseconds.
python3 - "$port" "$folder/health" <<'PYTHON' &
import sys, time, http.client
with open(sys.argv[2], "w", buffering=1) as out:
    while True:
        begin = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
            connection.request("GET", "/health")
            status = connection.getresponse().status
            connection.close()
        except OSError:
            status = 0
        out.write(f"{(time.monotonic() - begin) * 1000:.2f} {status}\n")
        time.sleep(0.1)
PYTHON
prober=$!
trap 'kill "$prober" "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$folder"' EXIT

load() { "$program" bench serve --port "$port" --concurrency "$streams" --requests "$1" --input-tokens 24 --output-tokens 24 --spread 0.8 --vocabulary 500 --seed "$2" --json; }
# Buffers, the prefix cache and the pages of keys and values reach their size: memory is compared from there on.
load $((streams * 120)) 1 > /dev/null || die "requests failed while warming up"
first=$(resident) done_requests=0 failed=0 round=2 end=$((SECONDS + minutes * 60)) shown=$SECONDS
while [ $SECONDS -lt $end ] || [ $done_requests -lt "$wanted" ]; do
  report=$(load $((streams * 8)) $round || true)
  done_requests=$((done_requests + streams * 8)) round=$((round + 1))
  failed=$((failed + $(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["failed"])' "$report")))
  if [ $((SECONDS - shown)) -ge 60 ]; then
    shown=$SECONDS
    say "$done_requests requests, $failed failed, $(resident) KiB resident (at first $first)"
  fi
done
last=$(resident)
python3 - "$folder/health" "$first" "$last" "$done_requests" "$failed" <<'PYTHON'
import sys
rows = [line.split() for line in open(sys.argv[1]) if len(line.split()) == 2]
times = sorted(float(row[0]) for row in rows)
bad = sum(row[1] != "200" for row in rows)
first, last, requests, failed = map(int, sys.argv[2:6])
p99 = times[int(len(times) * 0.99)]
growth = (last - first) / first
print(f"{requests} requests, {failed} failed; resident {first} -> {last} KiB ({growth:+.1%}); /health {len(times)} times, p50 {times[len(times) // 2]} ms, "
      f"p99 {p99} ms, {bad} not 200")
sys.exit(failed > 0 or growth >= 0.05 or p99 >= 50 or bad > 0)
PYTHON
