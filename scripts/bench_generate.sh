#!/usr/bin/env bash
# Prompts and answers here and with other programs, one after the other on this machine, of one model of random weights; prints all figures and their ratios.
# usage: scripts/bench_generate.sh [--shape m13|m135|tiny] [--llama-cpp DIR] [--hf] [--vllm PYTHON] [--formats bf16,int8,int4] [--rounds N] [--work DIR]
#   --llama-cpp  folder with llama-bench and llama-batched-bench: bf16, Q8_0 and Q4_0 beside bf16, int8 and int4
#   --hf         transformers (bf16), with the Python of scripts/oracles.sh: prompts, answers, requests one by one
#   --vllm       a Python that has vLLM: many requests at once (bf16)
#   --rounds     measure all so many times, each time one program after the other; the best of each counts (1). For machines whose memory others use too
#   --work       where models are made and kept (default: the cache folder); m13 takes 9 GB in all formats
# Prompts of 512 tokens, answers of 64, batches of 1 and 8; 8 and 32 requests of 128 + 128 tokens. THREADS (2): of every program.
source "$(dirname "$0")/common.sh"
source "$root/scripts/bench_shapes.sh"

shape=m13 llama= hf= vllm= formats=bf16,int8,int4 rounds=1 work=$cache/bench threads=${THREADS:-2}
while [ $# -gt 0 ]; do
  case $1 in
    --shape) shape=$2; shift ;;
    --llama-cpp) llama=$2; shift ;;
    --hf) hf=yes ;;
    --vllm) vllm=$2; shift ;;
    --formats) formats=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --work) work=$2; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $1 (see --help)" ;;
  esac
  shift
done

bench_shape "$shape"
prompt=${BENCH_PROMPT:-512} answer=${BENCH_ANSWER:-64} requests=(8 32) request=${BENCH_REQUEST:-128}
[ -e "$peers/hf_gen.py" ] || die "the peers' scripts are not in $peers"
program=$root/build/llama2zh
[ -x "$program" ] || die "build/llama2zh is missing: run scripts/build.sh"
python=${LLAMA2ZH_ORACLE_PYTHON:-$("$root/scripts/oracles.sh")}
mkdir -p "$work"
model=$work/$shape
results=$work/generate.jsonl
: > "$results"
export OMP_NUM_THREADS=$threads

make_once() { # RESULT COMMAND...
  local result=$1
  shift
  [ -e "$result" ] || { say "making $result"; "$@" >&2; }
}
# Lines of JSON of the command, with who made them.
measure() { # WHO FORMAT COMMAND...
  local who=$1 format=$2
  shift 2
  say "$*"
  "$@" | "$python" -c '
import json, sys
text = sys.stdin.read().strip()
rows = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line.startswith("{")]
for row in rows: print(json.dumps({"who": sys.argv[1], "format": sys.argv[2], **row}))' "$who" "$format" | tee -a "$results" >&2
}

make_once "$model/config.json" "$python" "$peers/make_model.py" "$model" "${sizes[@]}"
tokenizer=$work/$shape-q8_0.gguf # its vocabulary is the model's size
make_once "$tokenizer" "$python" "$peers/make_gguf.py" "$model" "$tokenizer" --type q8_0
for ((round = 1; round <= rounds; ++round)); do
  for format in ${formats//,/ }; do
    folder=$model type=bf16
    case $format in
      int8) folder=$model-int8 type=q8_0 ; make_once "$folder/config.json" "$program" quantize --model "$model" --tokenizer "$tokenizer" --bits 8 --lm-head --output "$folder" ;;
      int4) folder=$model-int4 type=q4_0 ; make_once "$folder/config.json" "$program" quantize --model "$model" --tokenizer "$tokenizer" --bits 4 --group-size 32 --lm-head --output "$folder" ;;
    esac
    measure llama2zh "$format" "$program" bench generate --model "$folder" --tokenizer "$tokenizer" --prompt-tokens "$prompt" --new-tokens "$answer" --batch 1 8 --json
    for n in "${requests[@]}"; do
      measure llama2zh "$format" "$program" bench throughput --model "$folder" --tokenizer "$tokenizer" --requests "$n" --input-tokens "$request" --output-tokens "$request" --json
    done
    [ -n "$llama" ] || continue
    gguf=$work/$shape-$type.gguf
    make_once "$gguf" "$python" "$peers/make_gguf.py" "$model" "$gguf" --type "$type"
    measure llama.cpp "$format" "$llama/llama-bench" -m "$gguf" -p "$prompt" -n "$answer" -t "$threads" -r 3 -o json
    measure llama.cpp "$format" "$llama/llama-batched-bench" -m "$gguf" -c 8192 -b 2048 -npp 16 -ntg "$answer" -npl 8 -t "$threads" --output-format jsonl
  done
  if [ -n "$hf" ]; then
    measure transformers bf16 "$python" "$peers/hf_gen.py" "$model" --prompt "$prompt" --new "$answer"
    measure "transformers, one by one" bf16 "$python" "$peers/hf_gen.py" "$model" --prompt "$request" --new "$request" --bs 1
  fi
  if [ -n "$vllm" ]; then
    measure vLLM bf16 "$vllm" "$root/scripts/vllm_throughput.py" "$model" --requests "${requests[@]}" --tokens "$request" --threads "$threads"
  fi
done

"$python" "$root/scripts/bench_generate_table.py" "$results"
