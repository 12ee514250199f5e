#!/usr/bin/env bash
# The shell scripts: all of them parse; run_train.sh, run_sft.sh, the Slurm example (with a stand-in for srun and scontrol) and bench_train.sh --ranks train a tiny model.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export LLAMA2ZH=${LLAMA2ZH_BINARY:?run it through ctest} OMP_NUM_THREADS=1
fail() { echo "FAILED: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LLAMA2ZH_CACHE=$work/cache

for script in "$root"/scripts/*.sh "$root"/scripts/examples/* "$root"/tests/*/*.sh "$root/.ci/run"; do
  bash -n "$script" || fail "$script does not parse"
done
for script in run_train run_sft bench_train; do
  "$root/scripts/$script.sh" --help | grep -q "^usage: .*scripts/$script.sh" || fail "$script.sh --help"
done

cd "$work"
cp "$root/LICENSE" text.txt
"$LLAMA2ZH" train-tokenizer --input text.txt --vocab-size 400 --output t.model > log
"$LLAMA2ZH" init-model --tokenizer t.model --hidden-size 32 --intermediate-size 64 --num-hidden-layers 2 --num-attention-heads 4 --output base > log
cat > tiny.json <<END
{"model": {"path": "base", "device": "cpu"}, "lora": {"rank": 2}, "data": {"block_size": 64},
 "train": {"micro_batch_size": 1, "max_steps": 4, "save_steps": 2}}
END
pretrain=(tiny.json --data.train_files text.txt)

NPROC=2 LAUNCH_OPTIONS="--log-dir logs" "$root/scripts/run_train.sh" "${pretrain[@]}" --output_dir trained > log 2>&1 || fail "run_train.sh: $(cat log)"
grep -q "launch: 2 processes of 2" log && grep -q "Done: 4 steps" log || fail "run_train.sh: $(cat log)"
[ -e trained/adapter_model.safetensors ] && grep -q "start 1 of rank 1" logs/rank-1.log || fail "run_train.sh leaves no result or no log"
NPROC=2 "$root/scripts/run_sft.sh" tiny.json --data.train_files "$root/assets/sft_zh.jsonl" --data.template v0.2 --data.block_size 1024 --model.peft_path trained \
  --output_dir tuned > log 2>&1 || fail "run_sft.sh: $(cat log)"
grep -q "launch: 2 processes of 2" log && [ -e tuned/adapter_model.safetensors ] || fail "run_sft.sh: $(cat log)"
! LLAMA2ZH=/nowhere "$root/scripts/run_train.sh" > log 2>&1 && grep -q "/nowhere is not there" log || fail "a missing program: $(cat log)"

# srun starts two tasks on this host; scontrol notes what it is asked for.
mkdir bin
cat > bin/srun <<'END'
#!/bin/sh
[ "$1" = --kill-on-bad-exit=1 ] || exit 9
shift
export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost SLURM_NODEID=0 SLURM_STEP_TASKS_PER_NODE=2
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" || exit
wait $!
END
printf '#!/bin/sh\necho "$@" >> scontrol\n' > bin/scontrol
chmod +x bin/srun bin/scontrol
slurm() {
  PATH=$work/bin:$PATH SLURM_JOB_ID=$$ SLURM_CPUS_PER_TASK=1 OUTPUT=slurm bash "$root/scripts/examples/slurm.sbatch" "${pretrain[@]}" "$@" > log 2>&1 || fail "slurm.sbatch: $(cat log)"
}
slurm --train.stop_at_step 3
[ "$(cat scontrol)" = "requeue $$" ] && [ -e slurm/checkpoint-3 ] || fail "a stopped job is not queued again: $(cat log)"
slurm
[ "$(wc -l < scontrol)" = 1 ] && grep -q "resuming at step 3" log && [ -e slurm/adapter_model.safetensors ] || fail "the job that goes on: $(cat log)"
grep -q "on each of 2 ranks" log || fail "the tasks did not train together: $(cat log)"

"$root/scripts/bench_train.sh" --shape tiny --block 64 --steps 2 --ranks t.model text.txt --work bench > ratio 2> log || fail "bench_train.sh --ranks: $(cat log)"
grep -qE '^tokens/s: one process of two threads [0-9.]+, two processes of one thread [0-9.]+, ratio [0-9.]+$' ratio || fail "$(cat ratio log)"
cat ratio
