#!/usr/bin/env bash
# clang-format over all of our C++, then clang-tidy's short list (.clang-tidy) over the program's sources.
# usage: scripts/lint.sh [--build-dir DIR]    (after scripts/build.sh: it takes the commands from there)
source "$(dirname "$0")/common.sh"

build=$root/build
while [ $# -gt 0 ]; do
  case $1 in
    --build-dir) build=$2; shift ;;
    -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $1 (see --help)" ;;
  esac
  shift
done
[ -e "$build/compile_commands.json" ] || die "$build/compile_commands.json is missing: run scripts/build.sh first"
install_packages clang-format clang-tidy

say "clang-format"
find "$root/src" "$root/include" "$root/tests" -name '*.h' -o -name '*.cpp' | xargs clang-format --dry-run --Werror
say "clang-tidy"
# The layers are compiled as unity files; -idirafter keeps torch's headers behind the system's for clang too.
grep -o '"file": "[^"]*/src/[^"]*"' "$build/compile_commands.json" | cut -d'"' -f4 | sort -u |
  xargs -P "$(nproc)" -n 1 clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option -p "$build" 2> >(grep -vE "warnings? (and [0-9]+ errors? )?generated|Suppressed|Use -header-filter" >&2)
say "clean"
