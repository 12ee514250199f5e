#!/usr/bin/env bash
# Continued pretraining, one process for each visible GPU, watched over by `llama2zh launch`; without GPUs one process.
# usage: [CUDA_VISIBLE_DEVICES=2,3] scripts/run_train.sh [CONFIG] [options of llama2zh pretrain]
#   CONFIG          default: configs/pretrain_7b.json
#   NPROC           number of processes, e.g. NPROC=2 on processors
#   LAUNCH_OPTIONS  options of llama2zh launch, e.g. "--max-restarts 3 --log-dir logs"
#   LLAMA2ZH        the program; default: build-cuda/llama2zh, else build/llama2zh
source "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
launch_training pretrain "$root/configs/pretrain_7b.json" "$@"
