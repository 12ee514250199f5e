"""What the oracles share: running llama2zh, a small Chinese model of its making, and a list of what differs."""

import json
import subprocess
import sys

failures = []  # of check_same()


def run_program(program, *args, folder=None):
    """Standard output of `program args...`, which must succeed."""
    done = subprocess.run([program, *map(str, args)], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{program} {' '.join(map(str, args))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def check_same(condition, what):
    """Goes on after a difference, so that one run shows all of them."""
    if not condition:
        failures.append(what)
        print("DIFFERS:", what, file=sys.stderr)


class Program:
    """llama2zh in a folder of its own; `source` is the repository, whose assets/sft_zh.jsonl is the text."""

    def __init__(self, program, source, folder):
        self.program, self.source, self.folder = program, source, folder
        self.rows = source / "assets/sft_zh.jsonl"

    def run(self, *args):
        return run_program(self.program, *args, folder=self.folder)

    def write_turns(self):
        """zh.txt: a line for each turn of the dialogues. Gives the turns."""
        rows = self.rows.read_text(encoding="utf-8").splitlines()
        turns = [turn["value"] for row in rows for turn in json.loads(row)["conversations"]]
        (self.folder / "zh.txt").write_text("\n".join(turns) + "\n", encoding="utf-8")
        return turns

    def make_model(self, output, positions=256):
        """zh.model of zh.txt, and two layers of random weights for it."""
        self.run("train-tokenizer", "--input", "zh.txt", "--vocab-size", 1500, "--output", "zh.model")
        self.run("init-model", "--tokenizer", "zh.model", "--hidden-size", 48, "--intermediate-size", 96, "--num-hidden-layers", 2,
                 "--num-attention-heads", 4, "--num-key-value-heads", 2, "--max-position-embeddings", positions, "--initializer-range", 0.2,
                 "--output", output)
