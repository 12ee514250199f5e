#!/usr/bin/env bash
# Continued pretraining under Open MPI, which only starts the processes: they talk through Gloo or NCCL.
# usage: scripts/examples/mpirun.sh HOSTS [CONFIG] [options of llama2zh pretrain]
#   HOSTS  as for mpirun -H: "localhost:2", "gpu1:4,gpu2:4"; the first one's address is where the ranks meet
# The repository and the data must be at the same place on every host.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }

hosts=$1
config=${2:-configs/pretrain_7b.json}
shift $(($# < 2 ? $# : 2))
first=${hosts%%[:,]*}
[ "$first" = localhost ] && first=127.0.0.1
export MASTER_ADDR=${MASTER_ADDR:-$first} MASTER_PORT=${MASTER_PORT:-29500}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# --bind-to none: Open MPI would bind each process, with all its threads, to one core.
exec mpirun -H "$hosts" --bind-to none --tag-output ${MPIRUN_OPTIONS:-} \
  -x MASTER_ADDR -x MASTER_PORT -x OMP_NUM_THREADS \
  "${LLAMA2ZH:-build/llama2zh}" pretrain --config "$config" "$@"
