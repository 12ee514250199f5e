#!/usr/bin/env bash
# Training here and with transformers + PEFT, one after the other on this machine, with the same recipe and the same model; prints both and their ratios.
# usage: scripts/bench_train.sh [--shape m13|m135|tiny] [--micro-batch N] [--block N] [--steps N] [--sft TOKENIZER ROWS | --ranks TOKENIZER TEXT] [--work DIR]
#   --sft     fine-tuning on real rows instead (alpaca's JSON array): packed here, packed and padded there
#   --ranks   instead, without a peer: two processes of one thread each against one of two threads, the same tokens a step; tokens/s of the best step after the first
#   --work    where the model of random weights is made and kept (default: the cache folder)
# The peers' scripts are ../shared/bench (LLAMA2ZH_SHARED moves ../shared); their Python is that of scripts/oracles.sh, or LLAMA2ZH_ORACLE_PYTHON.
source "$(dirname "$0")/common.sh"
source "$root/scripts/bench_shapes.sh"

shape=m13 micro_batch= block= steps=3 tokenizer= rows= text= work=$cache/bench
while [ $# -gt 0 ]; do
  case $1 in
    --shape) shape=$2; shift ;;
    --micro-batch) micro_batch=$2; shift ;;
    --block) block=$2; shift ;;
    --steps) steps=$2; shift ;;
    --sft) tokenizer=$2 rows=$3; shift 2 ;;
    --ranks) tokenizer=$2 text=$3; shift 2 ;;
    --work) work=$2; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $1 (see --help)" ;;
  esac
  shift
done

bench_shape "$shape"
[ -n "$micro_batch" ] || { [ "$shape" = m135 ] && micro_batch=4 || micro_batch=2; }
# The same for init-model, whose vocabulary is the tokenizer's.
case $shape in
  m13) shape_options=(--num-hidden-layers 4 --hidden-size 4096 --intermediate-size 11008 --num-attention-heads 32) ;;
  m135) shape_options=(--num-hidden-layers 30 --hidden-size 576 --intermediate-size 1536 --num-attention-heads 9 --num-key-value-heads 3) ;;
  tiny) shape_options=(--num-hidden-layers 2 --hidden-size 64 --intermediate-size 192 --num-attention-heads 4 --num-key-value-heads 2) ;;
esac
[ -n "$block" ] || { [ -n "$rows" ] && block=1024 || block=512; }
program=${LLAMA2ZH:-$root/build/llama2zh}
[ -x "$program" ] || die "$program is missing: run scripts/build.sh"

# pretrain NAME ACCUMULATION BEFORE...: trains what is in $work/ranks, started by the words BEFORE; its best tokens/s.
pretrain() {
  local output=$work/ranks/$1 accumulation=$2
  shift 2
  say "$*"
  "$@" pretrain --model.path "$work/ranks/model" --model.device cpu --data.train_files "$text" --data.block_size "$block" --lora.rank 24 --lora.dropout 0.1 \
    --train.micro_batch_size "$micro_batch" --train.gradient_accumulation_steps "$accumulation" --train.max_steps $((steps + 1)) --train.logging_steps 1 \
    --overwrite --output_dir "$output" >&2
  sed -n 's/.*"tokens_per_second":\([0-9.]*\).*/\1/p' "$output/trainer_log.jsonl" | tail -n +2 | sort -g | tail -n 1
}
if [ -n "$text" ]; then
  mkdir -p "$work/ranks"
  "$program" init-model --tokenizer "$tokenizer" "${shape_options[@]}" --dtype bfloat16 --output "$work/ranks/model" --overwrite >&2
  one=$(OMP_NUM_THREADS=2 pretrain one 2 "$program")
  two=$(OMP_NUM_THREADS=1 pretrain two 1 "$program" launch --nproc-per-node 2 --)
  awk -v one="$one" -v two="$two" 'BEGIN { printf "tokens/s: one process of two threads %.1f, two processes of one thread %.1f, ratio %.2f\n", one, two, two / one }'
  exit 0
fi
[ -e "$peers/hf_train.py" ] || die "the peers' scripts are not in $peers"
python=${LLAMA2ZH_ORACLE_PYTHON:-$("$root/scripts/oracles.sh")}
mkdir -p "$work"
model=$work/$shape
if [ ! -e "$model/config.json" ]; then
  say "making $model"
  "$python" "$peers/make_model.py" "$model" "${sizes[@]}" >&2
fi
results=$work/results.jsonl
: > "$results"
measure() { say "$*"; "$@" | tee -a "$results"; }

if [ -n "$rows" ]; then
  measure "$program" bench sft --model.path "$model" --model.tokenizer "$tokenizer" --data.train_files "$rows" --data.block_size "$block" \
    --steps "$steps" --json
  measure "$python" "$peers/hf_sft.py" "$model" "$tokenizer" "$rows" --block "$block" --steps "$steps" --packed
  measure "$python" "$peers/hf_sft.py" "$model" "$tokenizer" "$rows" --block "$block" --steps "$steps"
else
  for checkpointing in "" yes; do
    measure "$program" bench train --model.path "$model" --train.micro_batch_size "$micro_batch" --data.block_size "$block" --steps "$steps" \
      ${checkpointing:+--train.gradient_checkpointing} --json
    measure "$python" "$peers/hf_train.py" "$model" --mb "$micro_batch" --block "$block" --steps "$steps" ${checkpointing:+--ckpt}
  done
fi

"$python" - "$results" <<'EOF'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
ours = [line for line in lines if line["what"] in ("train", "sft")]
if ours[0]["what"] == "sft":
    (us,) = ours
    for peer in (line for line in lines if line["what"] == "hf_sft"):
        kind = "packed" if peer["packed"] else "padded"
        # The two see other rows of the file; tokens that are no padding compare them whatever their lengths.
        print(f"tokens/s without padding: ours {us['tok_s_micro']:.1f}, peer {kind} {peer['real_tok_s']:.1f}, ratio {us['tok_s_micro'] / peer['real_tok_s']:.2f}")
        print(f"rows/s: ours {us['rows_s']:.3f}, peer {kind} {peer['rows_s']:.3f}")
else:
    for us, peer in zip(ours, (line for line in lines if line["what"] == "hf_train")):
        name = "with activation checkpointing" if us["checkpointing"] else "plain"
        weights = us["weights_gib"]
        over, peer_over = us["peak_gib"] - weights, peer["peak_rss_gib"] - weights
        print(f"{name}: tokens/s forward and backward: ours {us['tok_s_micro']:.1f}, peer {peer['tok_s_micro']:.1f}, ratio {us['tok_s_micro'] / peer['tok_s_micro']:.2f}")
        step, peer_step = us["fwdbwd_s"] + us["opt_s"], peer["fwdbwd_s"] + peer["opt_s"]
        print(f"{name}: step with optimizer: ours {step:.3f} s, peer {peer_step:.3f} s, ratio {peer_step / step:.2f}")
        print(f"{name}: peak memory over the weights ({weights:.2f} GiB): ours {over:.2f} GiB, peer {peer_over:.2f} GiB, ratio {over / peer_over:.2f}")
        print(f"{name}: share of the GEMM peak ({us['gemm_peak_gflops']:.0f} GFLOP/s): {100 * us['share_of_peak']:.0f} %")
    if len(ours) == 2:
        print(f"activation checkpointing: {ours[1]['fwdbwd_s'] / ours[0]['fwdbwd_s']:.2f} x the time, peak {ours[1]['peak_gib']:.2f} instead of {ours[0]['peak_gib']:.2f} GiB")
EOF
