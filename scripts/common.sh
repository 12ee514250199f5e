# Sourced by the other scripts: where things are. Not meant to be run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${LLAMA2ZH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/llama2zh}
lock=$root/third_party/libtorch.lock
# One folder for each state of the lock file, shared by all clones of this user.
torch_dir=$cache/libtorch-$(sha256sum "$lock" | cut -c1-12)

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian packages that are not installed yet, of those given.
missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || echo "$package"
  done
}

# Installs the Debian packages given that are missing; as root, or through sudo.
install_packages() {
  local missing sudo=
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "these packages are missing and this is not Debian: $(echo $missing)"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "not root and no sudo: ask an administrator to run: apt-get install $(echo $missing)"
    sudo=sudo
  fi
  say "installing Debian packages: $(echo $missing)"
  $sudo apt-get update -q >&2
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
}

# The user's own libtorch, if CMAKE_PREFIX_PATH names one.
own_libtorch() {
  local prefix IFS=':;'
  for prefix in ${CMAKE_PREFIX_PATH:-}; do
    for prefix in "$prefix" "$prefix/torch" "$prefix/libtorch" "$prefix/../.."; do
      if [ -e "$prefix/include/ATen/core/Tensor.h" ]; then (cd "$prefix" && pwd); return 0; fi
    done
  done
  return 1
}

# Installs the Python wheels listed in section $2 of lock file $1 into folder $3, hashes checked.
install_wheels() {
  local list platforms=() n
  list=$(mktemp)
  awk -v want="# [$2]" '/^# \[/{on = ($0 == want); next} on && !/^#/' "$1" > "$list"
  for n in $(seq 5 36); do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
  python3 -m pip install --quiet --no-deps --no-compile --require-hashes --only-binary=:all: --upgrade --disable-pip-version-check \
    --no-warn-conflicts --root-user-action=ignore --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
    "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64 --platform any \
    --target "$3" -r "$list"
  rm -f "$list"
}

# What run_train.sh and run_sft.sh share: verb $1, its default config $2, then the user's arguments: [config] [options of the verb].
launch_training() {
  local verb=$1 config=$2 program=${LLAMA2ZH:-} processes=${NPROC:-}
  shift 2
  if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then config=$1; shift; fi
  [ -n "$program" ] || program=$root/build-cuda/llama2zh
  [ -x "$program" ] || program=${LLAMA2ZH:-$root/build/llama2zh}
  [ -x "$program" ] || die "$program is not there: run scripts/setup.sh and scripts/build.sh (with --cuda for GPUs)"
  if [ -z "$processes" ]; then
    processes=1
    # CUDA_VISIBLE_DEVICES set, but empty, hides the GPUs.
    if compgen -G '/dev/nvidia[0-9]*' >/dev/null && [ -n "${CUDA_VISIBLE_DEVICES-all}" ]; then processes=auto; fi
  fi
  exec "$program" launch --nproc-per-node "$processes" ${LAUNCH_OPTIONS:-} -- "$verb" --config "$config" "$@"
}
