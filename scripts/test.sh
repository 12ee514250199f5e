#!/usr/bin/env bash
# Sets up, builds and runs all tests through ctest.
# usage: scripts/test.sh [--oracles] [--cuda] [ctest options, e.g. -R tokenizer]
#   --oracles  also compare live with transformers, PEFT, sentencepiece and safetensors, installed into an environment of their own (about 3 GB)
#   --cuda     build with libtorch's CUDA libraries (build-cuda/)
# Tests read real models and texts from ../shared/data (or LLAMA2ZH_SHARED); those that need it and don't find it say so and are skipped.
source "$(dirname "$0")/common.sh"

cuda= oracles= options=()
for argument in "$@"; do
  case $argument in
    --oracles) oracles=1 ;;
    --cuda) cuda=1 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) options+=("$argument") ;;
  esac
done

build=$root/build${cuda:+-cuda}
"$root/scripts/setup.sh" --tests ${cuda:+--cuda}
"$root/scripts/build.sh" --tests ${cuda:+--cuda} --build-dir "$build" \
  -DLLAMA2ZH_ORACLES="${oracles:+$("$root/scripts/oracles.sh")}"
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" "${options[@]}"
