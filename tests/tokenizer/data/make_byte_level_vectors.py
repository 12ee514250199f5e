#!/usr/bin/env python3
"""Writes byte_level.json: a small byte-level BPE, and what Hugging Face's tokenizers makes of texts with it.

  make_byte_level_vectors.py ASSETS_FOLDER    (needs tokenizers; ASSETS_FOLDER is the repository's assets/)

"base" is a tokenizer.json; each of "variants" has parts that replace its own ("model" is updated), and "cases": text, the
ids of tokenizers, and the text that they decode to.
"""

import copy
import json
import pathlib
import sys

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

LLAMA3 = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
TEXTS = [
    "人工智能（AI）的发展", "Once upon a time, in 2024:  two  spaces.\n\nNew line", "can't, WON'T I'LL you're", "x = 12345;\tint  y",
    "𠮷野家 👩‍👩‍👧‍👦 é e\u0301", "………——", "\u00a0x\u00a0\u3000y\u2028z\u0085w\u180ev", " ", "   ", "\n\n\n", "\r\n\r\n a", "ſ's K",
    "<|im_start|>user\nHi<|im_end|>\n", " <pad>  x<pad> <pad> ", "中文词，中文", "½ ①② 3.14", "的" * 60, "the" * 40 + "of", "a" * 49, "of" * 24,
    " " * 70 + "x", "\x04\x7f", "",
]  # fmt: skip


def byte_level(use_regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


VARIANTS = {
    "gpt-2": {"pre_tokenizer": byte_level(True)},
    "prefix": {"pre_tokenizer": byte_level(True, prefix=True)},
    "smollm2": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level(True))},
    "llama3": {"pre_tokenizer": sequence(split(LLAMA3), byte_level(False)), "normalizer": {"type": "NFC"}, "model": {"ignore_merges": True}},
    "deepseek": {
        "pre_tokenizer": sequence(
            split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
            {"type": "Digits", "individual_digits": False}, byte_level(False))},
    "string": {"pre_tokenizer": sequence(split(" ", kind="String"), split(".", kind="String"), byte_level(False))},
    "removed": {"pre_tokenizer": sequence(split("\\p{L}+|\\s+", "Removed", True), byte_level(False))},
    "empty matches": {"pre_tokenizer": sequence(split("(?=[aeo])"), byte_level(False))},
}  # fmt: skip


def train(texts):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    base = json.loads(tokenizer.to_str())
    vocab = base["model"]["vocab"]
    # As SmolLM2's vocabulary, it lacks a byte that its text does not have: 4.
    missing = "\u0104"
    texts_by_id = [text for text, _ in sorted(vocab.items(), key=lambda item: item[1]) if text != missing]
    assert all(missing not in part for merge in base["model"]["merges"] for part in merge)
    base["model"]["vocab"] = vocab = {text: new for new, text in enumerate(texts_by_id)}
    for entry in base["added_tokens"]:
        entry["id"] = vocab[entry["content"]]
    size = len(vocab)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    base["added_tokens"] += [
        {"id": size, "content": "<pad>", **flags, "lstrip": True, "rstrip": True, "special": True},
        {"id": size + 1, "content": "中文词", **flags, "normalized": True},
    ]
    return base


def main():
    assets = pathlib.Path(sys.argv[1])
    texts = [path.read_text(encoding="utf-8") for path in sorted(assets.glob("*.jsonl"))]
    texts += ["the cat of the house, in the year 2024. It's the time we've known.\n\n"] * 200
    base = train(texts)
    out = {"base": base, "variants": {}}
    for name, changes in VARIANTS.items():
        whole = copy.deepcopy(base)
        for key, value in changes.items():
            whole[key] = {**whole[key], **value} if key == "model" else value
        hf = tokenizers.Tokenizer.from_str(json.dumps(whole))
        cases = []
        for text in TEXTS:
            ids = hf.encode(text).ids
            cases.append([text, ids, hf.decode(ids, skip_special_tokens=False)])
        out["variants"][name] = {"changes": changes, "cases": cases}
    target = pathlib.Path(__file__).parent / "byte_level.json"
    target.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('],["', '],\n["') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
