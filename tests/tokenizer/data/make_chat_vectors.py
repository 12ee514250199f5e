#!/usr/bin/env python3
"""Writes chat_vectors.json: ids and masks of small dialogues in every chat template.

Made from the templates' definitions with the sentencepiece library alone (0.2.3, protobuf for the
variant without dummy prefix), turn by turn as the systems that the templates come from do it.

  python make_chat_vectors.py LLAMA2_TOKENIZER_MODEL > chat_vectors.json
"""

import json
import re
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

BOS, EOS = 1, 2
META = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
)
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
ZH = "You are a helpful assistant. 你是一个乐于助人的助手。"


class Encoder:
    """LlamaTokenizer of transformers 4: text cut at special tokens, a dummy prefix by the legacy rule."""

    def __init__(self, path, legacy, marks):
        data = open(path, "rb").read()
        proto = sentencepiece_model_pb2.ModelProto.FromString(data)
        proto.normalizer_spec.add_dummy_prefix = False
        self.prefixed = sentencepiece.SentencePieceProcessor(model_proto=data)
        self.bare = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        self.legacy = legacy
        self.specials = {"<s>": BOS, "</s>": EOS, **marks}

    def text(self, text):
        return self.prefixed.encode(text)

    def hf(self, text):
        pattern = "(" + "|".join(re.escape(s) for s in self.specials) + ")"
        ids, position = [], 0
        for segment in re.split(pattern, text):
            if segment in self.specials:
                ids.append(self.specials[segment])
            elif segment:
                use = self.prefixed if self.legacy or position == 0 else self.bare
                ids += use.encode(segment)
            position += len(segment)
        return ids


def split_dialogue(messages, default):
    if messages[0][0] == "system":
        return messages[0][1], messages[1:]
    return default, messages


def original_v01(e, messages):
    for role, value in messages:
        name = "human" if role == "user" else "assistant"
        ids = e.hf(f"<s>\n{name}:\n{value.strip()}\n</s>")
        yield ids, [int(role != "user")] * len(ids)


def original_v02(e, messages):
    system, turns = split_dialogue(messages, META)
    for i, (role, value) in enumerate(turns):
        prefix = f"<<SYS>>\n{system}\n<</SYS>>" if i == 0 and system else ""
        text = f"<s>[INST]{prefix}\n{value.strip()}\n[/INST]\n" if role == "user" else f"{value.strip()}</s>"
        ids = e.hf(text)
        yield ids, [int(role != "user")] * len(ids)


def whole(e, turns):
    """Turns are lists of (text, supervised); the dialogue is one text, encoded once up to each boundary."""
    done, text = 0, ""
    for turn in turns:
        ids_of_turn, mask = [], []
        for part, supervised in turn:
            text += part
            ids = e.hf(text)
            ids_of_turn += ids[done:]
            mask += [int(supervised)] * (len(ids) - done)
            done = len(ids)
        yield ids_of_turn, mask


def vllm(e, messages):
    return whole(
        e,
        [[(f"<s>问：\n{v}\n答：\n", 0)] if r == "user" else [(f"{v}</s>", 1)] for r, v in messages],
    )


def llama2(e, messages):
    """Meta's dialog_tokens: bos + encode("[INST] q [/INST] a ") + eos; the answer's part is found by its prompt's length."""
    system, turns = split_dialogue(messages, "")
    contents = [v for _, v in turns]
    if system:
        contents[0] = f"<<SYS>>\n{system}\n<</SYS>>\n\n" + contents[0]
    for q, a in zip(contents[::2], contents[1::2]):
        prompt = e.text(f"[INST] {q.strip()} [/INST]")
        both = e.text(f"[INST] {q.strip()} [/INST] {a.strip()} ")
        assert both[: len(prompt)] == prompt
        yield [BOS] + prompt, [0] * (len(prompt) + 1)
        yield both[len(prompt) :] + [EOS], [1] * (len(both) - len(prompt) + 1)


def llama2_zh(e, messages):
    system, turns = split_dialogue(messages, ZH)
    for i, (role, value) in enumerate(turns):
        if role == "user":
            prefix = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if i == 0 and system else ""
            ids = [BOS] + e.text(f"[INST] {prefix}{value} [/INST]")
        else:
            ids = e.text(value) + [EOS]
        yield ids, [int(role != "user")] * len(ids)


def chatml(e, messages):
    system, turns = split_dialogue(messages, "")
    parts = []
    for i, (role, value) in enumerate(turns):
        if role == "user":
            prefix = f"<|im_start|>system\n{system}<|im_end|>\n" if i == 0 and system else ""
            parts.append([(f"{prefix}<|im_start|>user\n{value}<|im_end|>\n", 0)])
        else:
            parts.append([("<|im_start|>assistant\n", 0), (f"{value}<|im_end|>", 1), ("\n", 0)])
    first = True
    for ids, mask in whole(e, parts):
        yield ([BOS] if first else []) + ids, ([0] if first else []) + mask
        first = False


def plain(e, messages):
    for i, (role, value) in enumerate(messages):
        ids = ([BOS] if i == 0 else []) + e.text(value) + ([] if role == "user" else [EOS])
        yield ids, [int(role != "user")] * len(ids)


def llama3_parts(messages):
    system, turns = split_dialogue(messages, "")
    head = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    for i, (role, value) in enumerate(turns):
        prefix = f"{head('system')}{system.strip()}<|eot_id|>" if i == 0 and system else ""
        if role == "user":
            yield [(f"{prefix}{head('user')}{value.strip()}<|eot_id|>", 0)]
        else:
            yield [(head("assistant"), 0), (f"{value.strip()}<|eot_id|>", 1)]


def zephyr_parts(messages):
    system, turns = split_dialogue(messages, "")
    for i, (role, value) in enumerate(turns):
        prefix = f"<|system|>\n{system}</s>\n" if i == 0 and system else ""
        yield [(f"{prefix}<|user|>\n{value}</s>\n", 0)] if role == "user" else [("<|assistant|>\n", 0), (f"{value}</s>", 1), ("\n", 0)]


def alpaca_parts(messages):
    system, turns = split_dialogue(messages, ALPACA)
    for i, (role, value) in enumerate(turns):
        prefix = f"{system}\n\n" if i == 0 and system else ""
        if role == "user":
            yield [(f"{prefix}### Instruction:\n{value}\n\n", 0)]
        else:
            yield [("### Response:\n", 0), (f"{value}</s>", 1), ("\n\n", 0)]


# Rendered as one text: parts, and whether BOS comes first.
RENDERED = {"llama3": (llama3_parts, True), "zephyr": (zephyr_parts, False), "alpaca": (alpaca_parts, True)}


def one_text(name):
    make, bos = RENDERED[name]

    def turns(e, messages):
        for i, (ids, mask) in enumerate(whole(e, make(messages))):
            first = [BOS] if bos and i == 0 else []
            yield first + ids, [0] * len(first) + mask

    return turns


OPENINGS = {"v0.1": "<s>\nassistant:\n", "chatml": "<|im_start|>assistant\n"}
TEMPLATES = {
    "v0.1": original_v01, "v0.2": original_v02, "vllm": vllm, "llama2": llama2, "llama2_zh": llama2_zh,
    "chatml": chatml, "plain": plain, **{name: one_text(name) for name in RENDERED},
}  # fmt: skip
DIALOGUE = [
    ("user", "　你好，请介绍一下北京。\n"),
    ("assistant", " 北京是中国的首都😀。"),
    ("user", "How old is it?"),
    ("assistant", "About 3,000 years."),
]
MARKS = {
    "chatml": {"<|im_start|>": 32000, "<|im_end|>": 32001},
    "llama3": {"<|start_header_id|>": 32000, "<|end_header_id|>": 32001, "<|eot_id|>": 32002},
    "zephyr": {"<|system|>": 32000, "<|user|>": 32001, "<|assistant|>": 32002},
}
SYSTEMS = [None, "你是一名导游。", ""]


def prompt_ids(e, name, messages, turns):
    """Everything before the last answer, and what opens it."""
    if name in RENDERED:
        make, bos = RENDERED[name]
        parts = [part for turn in make(messages) for part in turn]
        answer = max(i for i, (_, supervised) in enumerate(parts) if supervised)
        return ([BOS] if bos else []) + e.hf("".join(text for text, _ in parts[:answer]))
    ids = [i for turn, _ in turns[:-1] for i in turn]
    if name not in OPENINGS:
        return ids
    opening = e.hf(OPENINGS[name])
    if name == "chatml" and not e.specials.get("<|im_start|>"):
        opening = e.bare.encode(OPENINGS[name])
    return ids + opening


def main():
    cases = []
    for marks in ({}, *MARKS.values()):
        for name, function in TEMPLATES.items():
            if marks and MARKS.get(name) != marks:
                continue
            if not marks and name == "llama3":
                continue  # marks that are text run into each other between turns, where training cuts
            for legacy in (True, False):
                for system in SYSTEMS:
                    if system is not None and name in ("v0.1", "vllm", "plain"):
                        continue
                    e = Encoder(sys.argv[1], legacy, marks)
                    messages = ([("system", system)] if system is not None else []) + DIALOGUE
                    turns = list(function(e, messages))
                    ends, total = [], 0
                    for i, (ids, _) in enumerate(turns):
                        total += len(ids)
                        if i % 2 == 1:
                            ends.append(total)
                    cases.append({
                        "template": name, "legacy": legacy, "marks": list(marks), "system": system,
                        "ids": [i for ids, _ in turns for i in ids],
                        "supervised": "".join(str(m) for _, mask in turns for m in mask),
                        "turn_ends": ends,
                        "prompt": prompt_ids(e, name, messages, turns),
                    })  # fmt: skip
    print("{\"dialogue\": %s," % json.dumps(DIALOGUE, ensure_ascii=False))
    print(" \"cases\": [")
    print(",\n".join("  " + json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases))
    print(" ]}")


if __name__ == "__main__":
    main()
