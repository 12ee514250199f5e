#!/usr/bin/env bash
# scripts/check_layers.sh finds each kind of wrong include in a small made-up tree, and passes a right one.
set -euo pipefail
check="$(cd "$(dirname "$0")/.." && pwd)/scripts/check_layers.sh"
tree="$(mktemp -d)"
trap 'rm -rf "$tree"' EXIT

expect() {  # expect pass|fail FILE INCLUDE
  rm -rf "$tree/src" "$tree/include"
  mkdir -p "$tree/$(dirname "$2")"
  printf '#include <string>\n  #  include %s\n' "$3" >"$tree/$2"
  local got=pass
  "$check" "$tree" >"$tree/output" || got=fail
  if [ "$got" != "$1" ]; then
    echo "expected $1: $2 with #include $3" >&2
    cat "$tree/output" >&2
    exit 1
  fi
  if [ "$got" = fail ]; then grep -q "$2:2: " "$tree/output"; fi
}

expect pass src/nn/a.cpp '"llama2zh/kernels/linear.h"'
expect pass src/nn/a.cpp '"nn/private.h"'
expect pass src/nn/a.cpp '<ATen/core/Tensor.h>'
expect pass include/llama2zh/commands/a.h '"llama2zh/serve/server.h"'
expect fail src/nn/a.cpp '"llama2zh/model/llama.h"'                  # upward
expect fail src/nn/a.cpp '<llama2zh/model/llama.h>'
expect fail include/llama2zh/base/a.h '"llama2zh/config/option.h"'
expect fail src/formats/a.cpp '"llama2zh/kernels/linear.h"'          # the same line
expect fail src/serve/a.cpp '"llama2zh/eval/perplexity.h"'
expect fail src/model/a.cpp '"nn/private.h"'                         # another layer's private header
expect fail src/tokenizer/a.cpp '<ATen/core/Tensor.h>'               # torch
expect fail src/config/a.cpp '<torch/torch.h>'
expect fail src/base/a.cpp '<c10/util/BFloat16.h>'
expect fail src/misc/a.cpp '"llama2zh/base/error.h"'                 # a layer that the table lacks
expect fail src/nn/a.cpp '"llama2zh/misc/error.h"'
echo "check_layers_test: passed"
