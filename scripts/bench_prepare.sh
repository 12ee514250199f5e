#!/usr/bin/env bash
# Compares `llama2zh prepare` with the sentencepiece library alone on as many threads: the same text, one after the other, in turns.
# usage: scripts/bench_prepare.sh TOKENIZER.model TEXT... [--megabytes 100] [--threads N] [--rounds 3]
# The texts are repeated to so many megabytes, as lines of a .txt (every line a document) and as rows of a .jsonl.
source "$(dirname "$0")/common.sh"

megabytes=100 threads=$(nproc) rounds=3 texts=()
while [ $# -gt 0 ]; do
  case $1 in
    --megabytes) megabytes=$2; shift ;;
    --threads) threads=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) texts+=("$1") ;;
  esac
  shift
done
[ ${#texts[@]} -ge 2 ] || die "give a tokenizer.model and at least one text"
model=${texts[0]} texts=("${texts[@]:1}")
[ -x /usr/bin/time ] || die "Debian package time is missing"
[ -x "$root/build/llama2zh" ] || die "build first: scripts/build.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
g++ -std=c++17 -O2 -o "$work/sentencepiece_speed" "$root/scripts/sentencepiece_speed.cpp" -lsentencepiece -lpthread
python3 - "$megabytes" "$work" "${texts[@]}" <<'EOF'
import json, sys
size, work, files = int(sys.argv[1]) * 10**6, sys.argv[2], sys.argv[3:]
lines = [line for file in files for line in open(file, encoding="utf-8").read().split("\n") if line.strip()]
with open(work + "/text.txt", "w", encoding="utf-8") as text, open(work + "/rows.jsonl", "w", encoding="utf-8") as rows:
    written = i = 0
    while written < size:
        line = lines[i % len(lines)]
        i += 1
        written += len(line.encode()) + 1
        text.write(line + "\n")
        rows.write(json.dumps({"text": line}, ensure_ascii=False) + "\n")
EOF
bytes=$(stat -c %s "$work/text.txt")
say "$((bytes / 1000000)) MB of text in $(wc -l < "$work/text.txt") lines, $threads threads"
prepare() {
  rm -rf "$work/store"
  /usr/bin/time -f "%e %M" -o "$work/time" "$root/build/llama2zh" prepare --tokenizer "$model" --train-files "$work/$1" --output "$work/store" \
    --threads "$threads" --kind pretrain "${@:2}" > /dev/null 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
  cat "$work/time"
}
for _ in $(seq "$rounds"); do
  read -r alone tokens < <("$work/sentencepiece_speed" "$model" "$work/text.txt" "$threads")
  read -r txt memory < <(prepare text.txt --txt-documents lines)
  read -r rows _ < <(prepare rows.jsonl)
  awk -v b="$bytes" -v a="$alone" -v t="$txt" -v r="$rows" -v m="$memory" -v n="$tokens" 'BEGIN {
    printf "sentencepiece %.1f MB/s; prepare .txt %.1f MB/s (%.1f %%), .jsonl %.1f MB/s (%.1f %%), peak memory %.0f MB; %d tokens\n",
      b / 1e6 / a, b / 1e6 / t, 100 * a / t, b / 1e6 / r, 100 * a / r, m / 1024, n }'
done
