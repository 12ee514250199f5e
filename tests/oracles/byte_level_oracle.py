#!/usr/bin/env python3
"""Compares byte-level BPE tokenizers with Hugging Face's tokenizers, transformers and llama.cpp, on SmolLM2's vocabulary.

  byte_level_oracle.py LLAMA2ZH_BINARY SHARED_FOLDER SOURCE_FOLDER

1. SmolLM2's own way to cut words, and those of GPT-2, Llama 3, Qwen2 and DeepSeek, over its vocabulary and merges: ids and
   decoded texts equal those of tokenizers, on real Chinese and English text, code, emoji, digits, white space, special
   tokens and random characters.
2. The .gguf itself: ids equal llama.cpp's, and a folder made of it is to transformers what it is here, chat template too.
3. Greedy ChatML answers in English and Chinese: llama2zh straight from the .gguf, from the folder of it, and from files
   that it exported, against llama.cpp, which must choose the same tokens until two lie near each other (NEAR) in its own eyes.

Needs gguf, xllamacpp, tokenizers, transformers. Exit status 0 if all is equal, 77 without SmolLM2 (scripts/smollm2.sh).
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import tokenizers
import transformers
from llama_cpp_program import LlamaCpp
from oracle_program import check_same, failures, run_program

TEXTS = [
    "从前有一个小女孩，她很喜欢红色的球。", "Once upon a time, in 2024:  two  spaces. New line", "Hello 世界！ 12345 3.14 ½ ①②",
    "𠮷野家 👩‍👩‍👧‍👦 é e\u0301", "………——", "<|im_start|>user Hi<|im_end|>", "for (int i = 0; i < 10; ++i) {\tx[i] += 1; }  // done",
    "can't, WON'T I'LL you're", "\u00a0x\u00a0\u3000y\u2028z\u0085w", "   ", "a" * 500, "龘靐齉" * 80, " " * 1000 + "x", "ſ's K", "def f(x):\t\treturn x**2",
    "人工智能（AI）的发展，离不开数据、算力和算法。", "a</s>b<reponame>c <gh_stars>", "２０２４年１２月", "\U0001f1e8\U0001f1f3\U0001f600",
]  # fmt: skip
LLAMA3 = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
QUESTIONS = [
    "What is the capital of France?", "Write a Python function that adds two numbers.", "Count from one to twenty.",
    "Tell me a short story about a cat.",
]  # fmt: skip
# llama.cpp's server leaves tokens that are parts of characters out of its log-probabilities: only the text is compared.
CHINESE = ["用中文介绍一下北京。", "请把“你好，世界”翻译成英文。"]
TOKENS = 48
NEAR = {"f32": 0.05, "its own file": 0.5, "q8_0": 0.5}  # log-probabilities by which llama.cpp may prefer another token


def byte_level(use_regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


CUTS = {
    "own": {},
    "gpt-2": {"pre_tokenizer": byte_level(True)},
    "prefix": {"pre_tokenizer": byte_level(True, True)},
    "llama3": {"pre_tokenizer": sequence(split(LLAMA3), byte_level(False)), "normalizer": {"type": "NFC"}, "ignore_merges": True},
    "qwen2": {"pre_tokenizer": sequence(split(LLAMA3.replace("{1,3}", "")), byte_level(False)), "normalizer": {"type": "NFC"}},
    "deepseek": {
        "pre_tokenizer": sequence(
            split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
            {"type": "Digits", "individual_digits": True}, byte_level(False))},
}  # fmt: skip


def corpus(shared):
    """Lines: real ones, and random characters of the blocks that texts have."""
    lines = list(TEXTS)
    folder = shared / "data/pretrain"
    for file in sorted(folder.iterdir()) if folder.exists() else []:
        text = file.read_text(encoding="utf-8-sig", errors="replace").replace("\r", "")
        lines += [line for line in text.split("\n") if line.strip()][:300]
    rng = random.Random(1)
    blocks = [(32, 127), (0x80, 0x300), (0x370, 0x600), (0x2000, 0x2100), (0x3000, 0x3100), (0x4E00, 0x5000), (0xAC00, 0xAD00), (0x1F300, 0x1F650)]
    for _ in range(500):
        lines.append("".join(chr(rng.randrange(*rng.choice(blocks))) for _ in range(rng.randrange(1, 60))))
    return [line for line in lines if not set(line) & set("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029") or line in TEXTS]


def tokenize(binary, model, lines):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", newline="", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))
        file.flush()
        out = run_program(binary, "tokenize", "--model", model, "--file", file.name, "--specials", "--json")
    rows = [json.loads(line)["ids"] for line in out.split("\n") if line]
    assert len(rows) == len(lines), (len(rows), len(lines))
    return rows


def compare_cuts(binary, model, scratch, lines):
    whole = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    for name, changes in CUTS.items():
        folder = scratch / f"cut-{name}"
        folder.mkdir()
        changed = {**whole, **changes}
        changed["model"] = {**whole["model"], "ignore_merges": changed.pop("ignore_merges", False)}
        (folder / "tokenizer.json").write_text(json.dumps(changed, ensure_ascii=False), encoding="utf-8")
        (folder / "tokenizer_config.json").write_bytes((model / "tokenizer_config.json").read_bytes())
        reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        wrong = [line for line, ids in zip(lines, tokenize(binary, folder, lines)) if ids != reference.encode(line).ids]
        check_same(not wrong, f"{name}: {len(wrong)} of {len(lines)} lines differ from tokenizers: {wrong[:3]!r}")
        print(f"{name}: {len(lines)} lines compared with tokenizers {tokenizers.__version__}")


def compare_with_transformers(binary, model):
    hf = transformers.AutoTokenizer.from_pretrained(model)
    for text in TEXTS:
        check_same(tokenize(binary, model, [text])[0] == hf.encode(text), f"transformers: ids of {text!r}")
    found = json.loads(run_program(binary, "inspect", model, "--json"))["tokenizer"]
    check_same((found["bos_id"], found["eos_id"], found["vocab_size"]) == (hf.bos_token_id, hf.eos_token_id, len(hf)), "special ids")
    return hf


def first_difference(ours, theirs):
    """Where the answers part, and by how much llama.cpp prefers its own token to ours there; None if they don't."""
    for at, (id_, (their_id, likeliest)) in enumerate(zip(ours, theirs)):
        if id_ != their_id:
            return at, likeliest[their_id] - likeliest.get(id_, -99)
    return None


def compare_answers(binary, file, model, hf, scratch):
    """llama.cpp rounds activations to int8 beside quantized weights, and keys and values to f16: near ties fall either way."""
    for kind in ["f32", "q8_0"]:
        run_program(binary, "convert", "--input", model, "--to", "gguf", "--gguf_type", kind, "--output", scratch / f"{kind}.gguf")
    for name, gguf_file in [("f32", scratch / "f32.gguf"), ("its own file", file), ("q8_0", scratch / "q8_0.gguf")]:
        llama = LlamaCpp(gguf_file)
        for text in TEXTS:
            check_same(llama.ids(text, True) == hf.encode(text), f"llama.cpp, {name}: ids of {text!r}")
        ask = lambda question: json.loads(run_program(binary, "generate", "--model", gguf_file, "--prompt", question, "--temperature", 0,
            "--repetition-penalty", 1, "--max-new-tokens", TOKENS, "--dtype", "float32", "--json"))  # fmt: skip
        longest = 0
        for question in CHINESE if name == "f32" else []:
            prompt = hf.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
            answer, theirs = ask(question)["text"], llama.continue_greedily(prompt, TOKENS)
            check_same(answer.strip() == theirs.strip(), f"{name}: {answer!r}, llama.cpp {theirs!r}")
        for question in QUESTIONS:
            prompt = hf.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
            answer = ask(question)["ids"]
            theirs = llama.likeliest(prompt, TOKENS)
            found = first_difference(answer, theirs)
            print(f"{name}, {question!r}: {len(answer)} tokens, {'all as llama.cpp' if found is None else 'parted at %d, by %.3f' % found}")
            check_same(found is None or found[1] < NEAR[name], f"{name}: {hf.decode(answer)!r}, llama.cpp {hf.decode([i for i, _ in theirs])!r}")
            longest = max(longest, len(answer) if found is None else found[0])
        # Quantized weights are multiplied by inputs rounded in other ways, so those answers part where two tokens lie near each other.
        check_same(name != "f32" or longest >= 32, f"{name}: no answer is llama.cpp's for 32 tokens")


def main():
    binary, shared, source = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    fetched = subprocess.run([source / "scripts/smollm2.sh"], capture_output=True, text=True)
    if fetched.returncode != 0:
        print(f"skipped: SmolLM2 can't be had: {fetched.stderr.strip().splitlines()[-1:]}")
        sys.exit(77)
    file = pathlib.Path(fetched.stdout.strip())
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        model = scratch / "smollm2"
        run_program(binary, "convert", "--input", file, "--output", model, "--dtype", "float32")
        compare_cuts(binary, model, scratch, corpus(shared))
        hf = compare_with_transformers(binary, model)
        compare_answers(binary, file, model, hf, scratch)
    print(f"{len(failures)} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
