#!/usr/bin/env bash
# Builds build/llama2zh. Run scripts/setup.sh first.
# usage: scripts/build.sh [--cuda] [--tests] [--build-dir DIR] [cmake options, e.g. -DLLAMA2ZH_UNITY=OFF]
source "$(dirname "$0")/common.sh"

build=$root/build cuda=OFF tests=OFF extra=()
while [ $# -gt 0 ]; do
  case $1 in
    --cuda) cuda=ON ;;
    --tests) tests=ON ;;
    --build-dir) build=$2; shift ;;
    -D*) extra+=("$1") ;;
    -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $1 (see --help)" ;;
  esac
  shift
done

if own=$(own_libtorch); then
  extra+=("-DTORCH_ROOT=$own")
else
  [ -e "$torch_dir/.complete-cpu" ] || die "libtorch is not installed: run scripts/setup.sh"
  [ $cuda = OFF ] || [ -e "$torch_dir/.complete-cuda" ] || die "libtorch's CUDA libraries are not installed: run scripts/setup.sh --cuda"
  extra+=("-DLLAMA2ZH_TORCH_DIR=$torch_dir")
fi
say "building in $build"
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-2G}
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DLLAMA2ZH_CUDA=$cuda -DLLAMA2ZH_TESTS=$tests "${extra[@]}" >&2
cmake --build "$build" >&2
