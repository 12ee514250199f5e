#!/usr/bin/env bash
# Two replicas behind assets/deploy/nginx.conf: requests reach both, sessions stick to one, streams are not held back, a replica that ends is
# passed over without a failed request.
# usage: nginx_test.sh LLAMA2ZH SOURCE
set -euo pipefail
program=$1 source=$2
command -v nginx >/dev/null || { echo "skipped: there is no nginx"; exit 77; }
. "$source/tests/serve/small_server.sh"
make_model
front=$(free_port) first=$(free_port) second=$(free_port)
start_server "$first" --served-model-name "replica$first"
start_server "$second" --served-model-name "replica$second"
sed -e "s/127.0.0.1:8001/127.0.0.1:$first/; s/127.0.0.1:8002/127.0.0.1:$second/; s/listen 8000/listen 127.0.0.1:$front/" \
  "$source/assets/deploy/nginx.conf" > llama2zh.conf
cat > nginx.conf <<EOF
pid $folder/nginx.pid;
error_log $folder/error.log;
daemon off;
events {}
http {
  access_log off;
  client_body_temp_path $folder/a; proxy_temp_path $folder/b; fastcgi_temp_path $folder/c; uwsgi_temp_path $folder/d; scgi_temp_path $folder/e;
  include $folder/llama2zh.conf;
}
EOF
nginx -c "$folder/nginx.conf" 2> nginx.err &
pids+=($!)

python3 - "$front" "${pids[0]}" <<'PYTHON'
import collections, http.client, json, os, signal, sys, threading, time

port, replica = int(sys.argv[1]), int(sys.argv[2])


def ask(text, headers=(), stream=False, tokens=8):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": stream, "ignore_eos": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), dict(headers))
    return connection.getresponse()


def model_of(**more):
    answer = ask("你好", **more)
    assert answer.status == 200, (answer.status, answer.read())
    return json.load(answer)["model"]


for _ in range(100):
    try:
        if ask("你好").status == 200:
            break
    except OSError:
        time.sleep(0.1)
seen = collections.Counter(model_of() for _ in range(20))
assert len(seen) == 2, f"least_conn reaches both: {seen}"
for session in ("a", "b", "c", "d", "e", "f"):
    assert len({model_of(headers={"X-Session-Id": session}.items()) for _ in range(5)}) == 1, "a session sticks"
assert len({model_of(headers={"X-Session-Id": str(i)}.items()) for i in range(32)}) == 2, "sessions are spread"

assert ask("你好", headers={"Origin": f"http://127.0.0.1:{port}"}.items()).status == 200, "the page of this very site"
assert ask("你好", headers={"Origin": "http://evil.example"}.items()).status == 403, "another site's page"

named = ask("你好", headers={"X-Request-Id": "case-7"}.items()).headers["X-Request-Id"]
assert named == "case-7", f"a client's request id: {named}"
new = ask("你好").headers["X-Request-Id"]
assert len(new) == 32, f"nginx's own request id: {new}"

answer = ask("你好", stream=True, tokens=400)
begin, times = time.monotonic(), []
while answer.readline():
    times.append(time.monotonic() - begin)
assert len(times) > 100 and times[0] < times[-1] / 2, f"pieces come one by one: {times[0]}, {times[-1]}"

statuses = []
def load():
    for _ in range(30):
        statuses.append(ask("你好", tokens=30).status)
threads = [threading.Thread(target=load) for _ in range(4)]
[thread.start() for thread in threads]
time.sleep(0.2)
os.kill(replica, signal.SIGTERM)  # drains: its requests end, new ones go to the other
[thread.join() for thread in threads]
assert statuses == [200] * 120, collections.Counter(statuses)
print("two replicas behind nginx: both reached, sessions stick, streams flow, one may end")
PYTHON
