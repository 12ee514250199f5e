#!/usr/bin/env python3
"""Writes tests/reference/data.json: what the files of the shared data come to as rows of ids, computed with sentencepiece alone.

  usage: make_data_reference.py SHARED_DATA [OUTPUT.json]     (in the environment that scripts/oracles.sh makes)

Pretraining: <s> text </s>. Dialogues: template v0.2 (each turn encoded on its own, <s> in front of a question, </s> behind
an answer, answers supervised). Each case holds the number of rows, tokens and supervised tokens, and the sha256 of all ids
(int32, little endian) and of the mask (a byte each).
"""
import hashlib
import json
import struct
import sys
from pathlib import Path

import sentencepiece

SYSTEM = "你是一位医生。"
BOS, EOS = [1], [2]


def read_rows(path: Path) -> list:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text.lstrip()[0] == "[" else [json.loads(line) for line in text.split("\n") if line.strip()]


def texts(path: Path, field: str) -> list:
    if path.suffix == ".txt":
        return [path.read_text(encoding="utf-8")]  # text mode: \r\n is \n
    found = [row[field] for row in read_rows(path)]
    return [text if isinstance(text, str) else "\n".join(text) for text in found]


def turns(row: dict) -> tuple:
    """(system, [(question, answer)])"""
    if "conversations" in row:
        messages = [(turn["from"], turn["value"]) for turn in row["conversations"]]
        system = messages.pop(0)[1] if messages[0][0] == "system" else SYSTEM
        if messages[-1][0] == "human" and "chosen" in row:
            messages.append(("gpt", row["chosen"]["value"]))
        if messages[-1][0] == "human":
            messages.pop()
        return system, [(messages[i][1], messages[i + 1][1]) for i in range(0, len(messages), 2)]
    if "instruction" in row:
        task = row["instances"][0] if "instances" in row else row
        question = row["instruction"] + ("\n" + task["input"] if task["input"] else "")
        return SYSTEM, [(question, task["output"])]
    return SYSTEM, [(row["query"], row["response"]) if "query" in row else (row["input"], row["target"])]


def encode_dialogue(sp, row: dict, block: int, overlong: str):
    system, pairs = turns(row)
    ids, mask, ends = [], [], []
    for i, (question, answer) in enumerate(pairs):
        head = f"<<SYS>>\n{system}\n<</SYS>>" if i == 0 and system else ""
        user = BOS + sp.encode(f"[INST]{head}\n{question.strip()}\n[/INST]\n")
        bot = sp.encode(answer.strip()) + EOS
        ids += user + bot
        mask += [0] * len(user) + [1] * len(bot)
        ends.append(len(ids))
    if len(ids) > block:
        end = max((end for end in ends if end <= block), default=0)
        ids, mask = {"keep_last": (ids[-block:], mask[-block:]), "drop_turns": (ids[:end], mask[:end]),
                     "drop_row": ([], [])}[overlong]
    return ids, mask


def digest(rows: list) -> dict:
    rows = [row for row in rows if row[0]]
    ids = [i for row in rows for i in row[0]]
    mask = [m for row in rows for m in row[1]]
    return {"rows": len(rows), "tokens": len(ids), "supervised": sum(mask),
            "ids_sha256": hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest(),
            "mask_sha256": hashlib.sha256(bytes(mask)).hexdigest()}


def main() -> None:
    data = Path(sys.argv[1])
    output = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent.parent / "tests/reference/data.json")
    cases = []
    for model in ["llama2_tokenizer.model", "chinese_llama2_55296.model"]:
        sp = sentencepiece.SentencePieceProcessor(model_file=str(data / "tokenizers" / model))
        for name, field in [("hongloumeng.txt", ""), ("sanguoyanyi.txt", ""), ("en_c4_demo.jsonl", "text"), ("shijing.json", "content"),
                            ("poetry_songci_0.json", "paragraphs")]:
            rows = [(BOS + ids + EOS, [1] * (len(ids) + 2)) for ids in (sp.encode(t) for t in texts(data / "pretrain" / name, field))]
            cases.append({"kind": "pretrain", "file": f"pretrain/{name}", "tokenizer": model, "field": field, **digest(rows)})
        for name, overlong in [("alpaca_zh_demo.json", "keep_last"), ("belle_zh_seed_tasks.json", "keep_last"),
                               ("chinese_llama2_seed_test_examples.json", "keep_last"), ("dpo_zh_demo.json", "keep_last"),
                               ("fastchat_dummy_conversation.json", "keep_last"), ("identity.json", "keep_last"),
                               ("promptcblue_toy_dev.json", "drop_row"), ("sharegpt_zh_300.jsonl", "keep_last"),
                               ("sharegpt_zh_300.jsonl", "drop_turns"), ("sharegpt_zh_300.jsonl", "drop_row")]:
            rows = [encode_dialogue(sp, row, 512, overlong) for row in read_rows(data / "sft" / name)]
            cases.append({"kind": "sft", "file": f"sft/{name}", "tokenizer": model, "block_size": 512, "overlong": overlong,
                          "system": SYSTEM, "read": len(rows), **digest(rows)})
    report = {"sentencepiece": sentencepiece.__version__, "cases": cases}
    output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
