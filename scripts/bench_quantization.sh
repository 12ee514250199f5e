#!/usr/bin/env bash
# Perplexity of a model's quantized forms on texts: int8 and int4 of `llama2zh quantize` beside llama.cpp's Q8_0 and Q4_0, whose blocks `convert` writes bit for bit.
# usage: scripts/bench_quantization.sh MODEL CALIBRATION TEXT...    (MODEL: a folder or a .gguf; CALIBRATION: text that is none of TEXT)
# TOKENIZER names the tokenizer of a MODEL that has none. All run here, in float32 arithmetic, windows of 512 tokens; ours round activations to int8 as they do in use, but where the name says float.
source "$(dirname "$0")/common.sh"
[ $# -ge 3 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2; }
program=${LLAMA2ZH:-$root/build/llama2zh}
model=$1 calibration=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" convert --input "$model" ${TOKENIZER:+--tokenizer "$TOKENIZER"} --output "$work/source" --dtype float32 > "$work/log"
"$program" convert --input "$work/source" --output "$work/bf16" --dtype bfloat16 > "$work/log"
for type in q8_0 q4_0; do
  "$program" convert --input "$work/source" --to gguf --gguf_type $type --output "$work/$type.gguf" > "$work/log"
done
"$program" quantize --model "$work/source" --bits 8 --output "$work/int8-row" > "$work/log"
"$program" quantize --model "$work/source" --bits 8 --group-size 32 --output "$work/int8-32" > "$work/log"
"$program" quantize --model "$work/source" --bits 8 --activations float --output "$work/int8-row-float" > "$work/log"
"$program" quantize --model "$work/source" --bits 8 --group-size 32 --activations float --output "$work/int8-32-float" > "$work/log"
"$program" quantize --model "$work/source" --bits 8 --group-size 32 --method gptq --activations float --calibration "$calibration" --output "$work/int8-gptq-float" > "$work/log"
"$program" quantize --model "$work/source" --bits 4 --output "$work/int4-rtn" > "$work/log"
"$program" quantize --model "$work/source" --bits 4 --method awq --calibration "$calibration" --output "$work/int4-awq" > "$work/log"
"$program" quantize --model "$work/source" --bits 4 --method gptq --calibration "$calibration" --output "$work/int4-gptq" > "$work/log"
for form in source bf16 q8_0.gguf int8-row int8-32 int8-row-float int8-32-float int8-gptq-float q4_0.gguf int4-rtn int4-awq int4-gptq; do
  printf '%s' "$form"
  for text in "$@"; do
    "$program" evaluate perplexity --model "$work/$form" --dtype float32 --window 512 --file "$text" --json 2> "$work/log" |
      python3 -c 'import json, sys; print("\t%.4f" % json.load(sys.stdin)["perplexity"], end="")'
  done
  echo
done
