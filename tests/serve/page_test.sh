#!/usr/bin/env bash
# The chat page in a real browser, as the real server sends it and against a real model.
# usage: page_test.sh LLAMA2ZH SOURCE PYTHON
set -euo pipefail
program=$1 source=$2 python=$3
. "$source/tests/serve/small_server.sh"
make_model
port=$(free_port)
start_server "$port"
"$python" "$source/tests/page/page_test.py" --base-url "http://127.0.0.1:$port/" AnyServer
