#!/usr/bin/env python3
"""Compares `llama2zh evaluate perplexity --protocol hf` with the loop of Hugging Face's guide through transformers, in float32.

  perplexity_oracle.py LLAMA2ZH_BINARY SOURCE_FOLDER SHARED_FOLDER

The guide is "Perplexity of fixed-length models"; its loop runs over BOS and the text's tokens, with windows side by side and
overlapping ones, on
  - stories260K,
  - SmolLM2-135M-Instruct, whose .gguf (scripts/smollm2.sh) `llama2zh convert` makes float32 safetensors of; left out where it can't be
    fetched.
The sums over the scored tokens and their number agree. The guide's own mean weighs each window by one token less than it scores where
windows overlap; the number that it would print is shown beside ours.

Needs sentencepiece, torch, transformers. Exit status 0 if all is equal, 77 without the shared data.
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import sentencepiece
import torch
import transformers
from oracle_program import check_same, failures, run_program

TOLERANCE = 2e-5  # relative, of the sum of nll


def guide_loop(model, ids, window, stride):
    """(tokens, sum of nll, the guide's perplexity)"""
    ids = torch.tensor([ids])
    tokens = nll = guide_tokens = guide_nll = 0
    end_before = 0
    for begin in range(0, ids.size(1), stride):
        end = min(begin + window, ids.size(1))
        target = ids[:, begin:end].clone()
        target[:, : -(end - end_before)] = -100
        with torch.no_grad():
            loss = model(ids[:, begin:end], labels=target).loss.double().item()
        scored = int((target[:, 1:] != -100).sum())  # the loss shifts the labels by one
        if scored:
            tokens, nll = tokens + scored, nll + loss * scored
        counted = int((target != -100).sum()) - 1
        if counted:
            guide_tokens, guide_nll = guide_tokens + counted, guide_nll + loss * counted
        end_before = end
        if end == ids.size(1):
            break
    return tokens, nll, math.exp(guide_nll / guide_tokens)


def compare(name, binary, model_path, flags, ids, text, folder, windows):
    model = transformers.AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
    (folder / "text.txt").write_text(text, encoding="utf-8")
    for window, stride in windows:
        out = run_program(binary, "evaluate", "perplexity", "--model", model_path, *flags, "--dtype", "float32", "--file", folder / "text.txt",
                          "--protocol", "hf", "--window", window, "--stride", stride, "--json")
        got = json.loads(out)
        tokens, nll, guide = guide_loop(model, ids, window, stride)
        off = abs(got["nll_per_token"] * got["tokens"] / nll - 1)
        print(f"{name}, window {window}, stride {stride}: {got['tokens']} tokens, perplexity {got['perplexity']:.6f} here, "
              f"{math.exp(nll / tokens):.6f} there (as the guide weighs: {guide:.6f})")
        check_same(got["tokens"] == tokens, f"{name} {window}/{stride}: {got['tokens']} tokens, expected {tokens}")
        check_same(off < TOLERANCE, f"{name} {window}/{stride}: nll differs by {off:.1e}")


def smollm2(source):
    """The .gguf, or None where it can't be had."""
    done = subprocess.run([source / "scripts/smollm2.sh"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def main():
    binary, source, shared = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve()
    if not (shared / "data/weights/stories260K_hf").exists():
        print(f"skipped: no {shared}/data/weights/stories260K_hf")
        return 77
    torch.set_num_threads(2)
    text = (shared / "data/weights/stories260K_golden.txt").read_text(encoding="utf-8")
    rows = (shared / "data/pretrain/en_c4_demo.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    english = "\n".join(json.loads(row)["text"] for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        vocabulary = shared / "data/tokenizers/tok512_from_bin.model"
        sp = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
        story = text + english[:4000]
        compare("stories260K", binary, shared / "data/weights/stories260K_hf", ["--tokenizer", vocabulary], [sp.bos_id(), *sp.encode(story)],
                story, folder, [(512, 512), (512, 256), (128, 128), (128, 32), (64, 1)])
        gguf = smollm2(source)
        if gguf is None:
            print("SmolLM2 is left out: it can't be fetched")
        else:
            run_program(binary, "convert", "--input", gguf, "--output", folder / "smollm2", "--dtype", "float32")
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "smollm2")
            ids = tokenizer(english[:3000], add_special_tokens=False)["input_ids"]
            compare("SmolLM2-135M", binary, folder / "smollm2", [], [tokenizer.bos_token_id, *ids], english[:3000], folder,
                    [(512, 512), (512, 256)])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
