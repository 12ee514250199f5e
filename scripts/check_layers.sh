#!/usr/bin/env bash
# Checks that the layers point down (docs/architecture.md): every #include of a layer's header must be one that the
# table below allows, and base, config, plot and tokenizer must not see torch. Usage: check_layers.sh [repository]
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# layer: the layers it may include besides itself
table="
base:
config: base
plot: base
tokenizer: base config
http: base config
formats: base
kernels: base
distributed: base config
nn: base kernels
data: base config tokenizer formats
model: base config tokenizer formats kernels nn
train: base config tokenizer formats kernels nn data model distributed
engine: base config tokenizer formats kernels nn model
eval: base config tokenizer formats kernels nn data model engine
serve: base config http tokenizer formats kernels nn model engine
commands: base config http tokenizer formats kernels distributed nn data model train engine eval serve plot
app: base commands
"
torch_free=" base config plot tokenizer http "

folders=()
for folder in src include/llama2zh; do
  [ -d "$folder" ] && folders+=("$folder")
done
[ "${#folders[@]}" -gt 0 ] || { echo "check_layers: no src or include/llama2zh in $PWD" >&2; exit 2; }

# Lines "file:number:#include ..." of all sources go through one awk.
find "${folders[@]}" -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 grep -nHE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' |
  awk -v table="$table" -v torch_free="$torch_free" '
    BEGIN {
      count = split(table, rows, "\n")
      for (i = 1; i <= count; ++i) {
        if (rows[i] == "") continue
        layer = rows[i]; sub(/:.*/, "", layer)
        below = rows[i]; sub(/^[^:]*:/, "", below)
        known[layer] = 1
        allowed[layer, layer] = 1
        words = split(below, names, " ")
        for (j = 1; j <= words; ++j) allowed[layer, names[j]] = 1
      }
    }
    function complain(message) { print "check_layers: " file ":" number ": " message; ++bad }
    {
      file = $0; sub(/:.*/, "", file)
      number = substr($0, length(file) + 2); sub(/:.*/, "", number)
      target = $0; sub(/^[^"<]*["<]/, "", target); sub(/[">].*$/, "", target)
      layer = file; sub(/^(src|include\/llama2zh)\//, "", layer)
      if (layer !~ /\//) next  # a file of no layer
      sub(/\/.*/, "", layer)
      ++checked
      if (!(layer in known)) { complain("the layer " layer " is not in the table"); next }
      if (index(torch_free, " " layer " ") && target ~ /^(torch|ATen|c10|caffe2)\//)
        complain(layer " must not see torch: " target)
      # "llama2zh/<layer>/x.h" is public, "<layer>/x.h" a private header below src.
      public = sub(/^llama2zh\//, "", target)
      other = target; sub(/\/.*/, "", other)
      if (target !~ /\//) next
      if (public && !(other in known)) { complain("includes the unknown layer " other); next }
      if (!(other in known)) next  # a header of a library
      if (!((layer, other) in allowed)) complain(layer " must not include " other ": " target)
      else if (!public && other != layer) complain("private header of another layer: " target)
    }
    END {
      if (bad) { print "check_layers: " bad " wrong includes"; exit 1 }
      if (!checked) { print "check_layers: nothing was checked"; exit 2 }
      print "check_layers: " checked " includes point down"
    }'
