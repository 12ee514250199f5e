#!/usr/bin/env bash
# Two ranks that Open MPI starts on this host, by scripts/examples/mpirun.sh and bare, meet and add, and train a tiny model.
set -euo pipefail
worker=${1:?the path of rank_worker}
command -v mpirun > /dev/null || { echo "skipped: no mpirun; scripts/setup.sh --tests installs openmpi-bin"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }
cd "$(dirname "$0")/../.."

# Containers often run as root, which Open MPI wants to be told is meant; the port must not be another run's.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 MASTER_PORT=$((20000 + $$ % 10000))
isolated="--oversubscribe --mca plm isolated"  # no ssh is looked for
out=$(timeout 120 mpirun $isolated -np 2 -x MASTER_PORT "$worker" sum) || fail "mpirun: $out"
grep -qF "MPI: 2 ranks, sum 1, hosts 1, at 127.0.0.1" <<< "$out" || fail "$out"

# The example's program is given a training's arguments; this one looks at the first.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
program=$work/program
printf '#!/bin/sh\n[ "$1 $2 $3 $4 $5" = "pretrain --config f.json --train.seed 3" ] && exec %s sum\n' "'$worker'" > "$program"
chmod +x "$program"
export MASTER_PORT=$((MASTER_PORT + 1)) MPIRUN_OPTIONS=$isolated LLAMA2ZH=$program
out=$(timeout 120 scripts/examples/mpirun.sh localhost:2 f.json --train.seed 3) || fail "mpirun.sh: $out"
grep -qF "MPI: 2 ranks, sum 1, hosts 1, at 127.0.0.1" <<< "$out" || fail "$out"

# The same example with a training: the losses are those of one process that takes both ranks' micro-batches.
llama2zh=${LLAMA2ZH_BINARY:?run it through ctest}
export MASTER_PORT=$((MASTER_PORT + 1)) LLAMA2ZH=$llama2zh LLAMA2ZH_CACHE=$work/cache OMP_NUM_THREADS=1
source tests/distributed/tiny_training.sh "$work"
out=$(timeout 300 scripts/examples/mpirun.sh localhost:2 "$work/tiny.json" --output_dir "$work/two" 2>&1) || fail "mpirun.sh pretrain: $out"
grep -qF "on each of 2 ranks" <<< "$out" || fail "$out"
"$llama2zh" pretrain --config "$work/tiny.json" --train.gradient_accumulation_steps 2 --output_dir "$work/one" > "$work/log" 2>&1 || fail "one process: $(tail "$work/log")"
expect_same_losses "$work/one" "$work/two"
