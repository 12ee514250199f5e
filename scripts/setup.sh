#!/usr/bin/env bash
# Installs what llama2zh is built with: Debian packages, and libtorch (the Python wheel, unpacked) into a cache folder that all clones share.
# usage: scripts/setup.sh [--cuda] [--tests]
#   --cuda    also the CUDA libraries that libtorch links (about 3 GB)
#   --tests   also what the tests need
# A libtorch of your own is used instead when CMAKE_PREFIX_PATH names it. LLAMA2ZH_CACHE moves the cache folder.
source "$(dirname "$0")/common.sh"

cuda= tests=
for argument in "$@"; do
  case $argument in
    --cuda) cuda=1 ;;
    --tests) tests=1 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $argument (see --help)" ;;
  esac
done

packages=(g++ cmake ninja-build ccache pkg-config ca-certificates python3 python3-pip nlohmann-json3-dev libspdlog-dev libcxxopts-dev
  libsentencepiece-dev libssl-dev zlib1g-dev libzstd-dev zstd libxxhash-dev libedit-dev libutf8proc-dev libpcre2-dev libjemalloc-dev libgloo-dev
  libboost1.81-dev prometheus-cpp-dev
  node-marked node-dompurify libjs-katex fonts-katex libjs-highlight.js  # the chat page's libraries (assets/page/libraries.txt)
  python3-jieba)  # the word segmenter's dictionary (cmake/EmbedWords.cmake)
[ -z "$tests" ] || packages+=(libgtest-dev libgmock-dev python3-venv openmpi-bin iproute2 librsvg2-2 fonts-droid-fallback openssl nginx-light
  chromium chromium-driver wrk)
install_packages "${packages[@]}"

if own=$(own_libtorch); then
  say "libtorch: your own in $own"
  exit 0
fi
[ "$(uname -m)" = x86_64 ] || die "the libtorch wheel in third_party/libtorch.lock is for x86-64; set CMAKE_PREFIX_PATH to a libtorch for $(uname -m)"

# Sections are unpacked one after the other; a marker file is written when one is complete. Other clones wait.
mkdir -p "$torch_dir"
exec 9> "$torch_dir/.lock"
flock 9
for section in cpu ${cuda:+cuda}; do
  [ ! -e "$torch_dir/.complete-$section" ] || continue
  say "installing libtorch ($section) into $torch_dir"
  # pip replaces whole top folders (nvidia/) of its target: unpack beside it, then merge.
  rm -rf "$torch_dir/.partial"
  install_wheels "$lock" "$section" "$torch_dir/.partial"
  cp -rlf "$torch_dir/.partial/." "$torch_dir/"
  rm -rf "$torch_dir/.partial"
  touch "$torch_dir/.complete-$section"
done
say "libtorch: $torch_dir"
