#!/usr/bin/env python3
"""Compares `llama2zh prepare` with Hugging Face's tokenizers on a byte-level BPE: the same lines on as many threads, in turns.

  bench_byte_level.py FOLDER_WITH_TOKENIZER_JSON TEXT [--megabytes 40] [--threads 2] [--rounds 3]

Run it with the interpreter that scripts/oracles.sh prints. prepare also reads the file and writes the token store; tokenizers
(encode_batch_fast) has the lines in memory. Prints MB/s of wall time and of processor time, which other programs disturb less.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HF = """
import sys, time, tokenizers
model, file = sys.argv[1:]
tokenizer = tokenizers.Tokenizer.from_file(model + "/tokenizer.json")
lines = open(file, encoding="utf-8").read().split("\\n")
wall, processor, tokens = time.time(), time.process_time(), 0
for at in range(0, len(lines), 2000):
    tokens += sum(len(e.ids) for e in tokenizer.encode_batch_fast(lines[at : at + 2000], add_special_tokens=False))
print(time.time() - wall, time.process_time() - processor, tokens, len(lines))
"""


def run_hf(options, file):
    env = {**os.environ, "RAYON_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "true"}
    out = subprocess.run([sys.executable, "-c", HF, options.model, file], env=env, check=True, capture_output=True, text=True).stdout
    wall, processor, tokens, lines = out.split()
    return float(wall), float(processor), int(tokens), int(lines)


def run_ours(options, file, folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.time()
    subprocess.run([ROOT / "build/llama2zh", "prepare", "--model.tokenizer", options.model, "--data.train_files", file, "--data.txt_documents", "lines",
                    "--output", folder], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": str(options.threads)})  # fmt: skip
    wall = time.time() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    train = json.loads(subprocess.run([ROOT / "build/llama2zh", "inspect", folder, "--json"], check=True, capture_output=True, text=True).stdout)["train"]
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, train["tokens"] - train["rows"]  # without EOS


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    text = "\n".join(line for line in pathlib.Path(options.text).read_text(encoding="utf-8").split("\n") if line.strip())
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "lines.txt")
        size = len(text.encode()) + 1
        file.write_text("\n".join([text] * max(1, options.megabytes * 10**6 // size)), encoding="utf-8")
        mb = file.stat().st_size / 1e6
        for turn in range(options.rounds):
            wall, processor, tokens, _ = run_hf(options, file)
            print(f"tokenizers        {mb / wall:6.1f} MB/s, {mb / processor:6.1f} MB a processor second, {tokens} tokens")
            wall, processor, tokens = run_ours(options, file, pathlib.Path(folder, f"store{turn}"))
            print(f"llama2zh prepare  {mb / wall:6.1f} MB/s, {mb / processor:6.1f} MB a processor second, {tokens} tokens")


if __name__ == "__main__":
    main()
