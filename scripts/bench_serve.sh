#!/usr/bin/env bash
# The same load on this server and on others in turn, on one model: tokens/s and 95th percentiles, and their ratios to ours. Then what /health and /v1/models bear (wrk).
# usage: scripts/bench_serve.sh MODEL [--gguf FILE --llama-server BIN] [--vllm PYTHON] [--input ROWS] [--requests N] [--concurrency N] [--output-tokens N] [--dtype T] [--wrk SECONDS]
#   --gguf, --llama-server  the model as a .gguf, and llama.cpp's server
#   --vllm     a Python that has vLLM
#   --input    dialogues whose questions and lengths of answers are used (default: assets/sft_zh.jsonl)
#   --dtype    of this server and vLLM (default: bfloat16); a .gguf has its own
# Each server answers --concurrency streams at once and ignores EOS, so all make the same number of tokens. Absolute figures are a machine's own.
source "$(dirname "$0")/common.sh"

model= gguf= llama_server= vllm= input=$root/assets/sft_zh.jsonl requests=64 concurrency=8 output=128 dtype=bfloat16 wrk_seconds=10
while [ $# -gt 0 ]; do
  case $1 in
    --gguf) gguf=$2; shift ;;
    --llama-server) llama_server=$2; shift ;;
    --vllm) vllm=$2; shift ;;
    --input) input=$2; shift ;;
    --requests) requests=$2; shift ;;
    --concurrency) concurrency=$2; shift ;;
    --output-tokens) output=$2; shift ;;
    --dtype) dtype=$2; shift ;;
    --wrk) wrk_seconds=$2; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) die "unknown option $1 (see --help)" ;;
    *) model=$1 ;;
  esac
  shift
done
[ -n "$model" ] || die "which model? (see --help)"
[ -z "$llama_server" ] || [ -n "$gguf" ] || die "--llama-server needs the model as --gguf FILE"
program=${LLAMA2ZH:-$root/build/llama2zh}
[ -x "$program" ] || die "$program is missing: run scripts/build.sh"
folder=$(mktemp -d)
server=
trap 'end_server; rm -rf "$folder"' EXIT

end_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() {  # NAME COMMAND...: returns once /health is 200
  local name=$1
  shift
  "$@" > "$folder/$name.log" 2>&1 &
  server=$!
  for _ in $(seq 3000); do
    if python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "http://127.0.0.1:$port/health" 2>/dev/null; then return 0; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 20 "$folder/$name.log" >&2
  die "$name did not start"
}

load() { "$program" bench serve --port "$port" --input "$input" --tokenizer "$model" --requests "$1" --concurrency "$concurrency" --output-tokens "$output" --json "${asked[@]}"; }

measure() {  # NAME COMMAND...
  local name=$1
  say "$name"
  start "$@"
  load "$concurrency" > /dev/null || die "$name: requests failed while warming up"
  load "$requests" > "$folder/$name.json" || die "$name: requests failed: $(cat "$folder/$name.json")"
}

port=$(free_port) asked=()
measure llama2zh "$program" serve --model "$model" --port "$port" --dtype "$dtype" --max-running "$concurrency" --access-log none
if [ "$wrk_seconds" -gt 0 ] && command -v wrk > /dev/null; then
  for path in /health /v1/models; do
    wrk --threads 2 --connections 64 --duration "${wrk_seconds}s" --latency "http://127.0.0.1:$port$path" |
      awk -v path="$path" '/99%/ {p99 = $2} /Requests\/sec/ {rate = $2} /Non-2xx/ {bad = $NF} END {print path ": " rate " requests/s, p99 " p99 ", " bad + 0 " not 200"}'
  done
fi
end_server
if [ -n "$llama_server" ]; then
  port=$(free_port)
  measure llama.cpp "$llama_server" -m "$gguf" --host 127.0.0.1 --port "$port" --parallel "$concurrency" --ctx-size $((4096 * concurrency)) --cont-batching
  end_server
fi
if [ -n "$vllm" ]; then
  port=$(free_port) asked=(--model bench)
  measure vllm "$vllm" -m vllm.entrypoints.openai.api_server --model "$model" --served-model-name bench --host 127.0.0.1 --port "$port" --dtype "$dtype" --max-num-seqs "$concurrency"
  end_server
fi

python3 - "$folder" <<'PYTHON'
import json, pathlib, sys
reports = {path.stem: json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).glob("*.json")}
ours = reports.pop("llama2zh")
columns = ["output_tok_s", "first_token_s_p95", "between_tokens_s_p95", "request_s_p95"]
print("| server | " + " | ".join(columns) + " |")
print("|---" * (1 + len(columns)) + "|")
for name, report in {"llama2zh": ours, **reports}.items():
    print(f"| {name} | " + " | ".join(f"{report.get(key, 0):.4g}" for key in columns) + " |")
for name, report in reports.items():
    ratios = [f"{key} {ours[key] / report[key]:.2f}" for key in columns if report.get(key) and ours.get(key)]
    print(f"llama2zh / {name}: " + ", ".join(ratios))
PYTHON
