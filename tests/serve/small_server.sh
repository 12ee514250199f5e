# Sourced by the tests that start servers: a small Chinese model of random weights, and servers on free ports. $program and $source are set.
command -v python3 >/dev/null || { echo "skipped: there is no python3"; exit 77; }
folder=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"

make_model() {  # model/
  python3 - "$source/assets/sft_zh.jsonl" > zh.txt <<'PYTHON'
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    for turn in json.loads(line)["conversations"]:
        print(turn["value"].replace("\n", " "))
PYTHON
  "$program" train-tokenizer --input zh.txt --vocab-size 1500 --output zh.model 2>/dev/null
  "$program" init-model --tokenizer zh.model --hidden-size 48 --intermediate-size 96 --num-hidden-layers 2 --num-attention-heads 4 \
    --num-key-value-heads 2 --max-position-embeddings 2048 --output model 2>/dev/null
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start_server() {  # PORT OPTIONS...: returns once it is ready
  local port=$1
  shift
  "$program" serve --model model --template chatml --port "$port" "$@" 2> "log$port" &
  pids+=($!)
  for _ in $(seq 600); do
    grep -q 'ready after' "log$port" && return 0
    kill -0 "${pids[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  cat "log$port"
  return 1
}
