#!/usr/bin/env bash
# Installs the Python environment of the reference implementations (tests/oracles.lock) and prints its interpreter's path.
source "$(dirname "$0")/common.sh"

"$root/scripts/setup.sh" --tests --cuda >&2  # Python's torch wants all of the wheel's libraries
environment=$cache/oracles-$(cat "$lock" "$root/tests/oracles.lock" | sha256sum | cut -c1-12)
exec 9> "$environment.lock"
flock 9
if [ ! -e "$environment/.complete" ]; then
  say "installing the reference implementations into $environment"
  rm -rf "$environment"
  /usr/bin/python3 -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --no-deps --disable-pip-version-check -r "$root/tests/oracles.lock" >&2
  # torch is the unpacked wheel that the program links.
  echo "$torch_dir" > "$(echo "$environment"/lib/python3.*/site-packages)/libtorch.pth"
  "$environment/bin/python" -c 'import torch, transformers, peft, sentencepiece, safetensors' >&2
  touch "$environment/.complete"
fi
echo "$environment/bin/python"
