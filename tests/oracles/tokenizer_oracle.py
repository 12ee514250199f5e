#!/usr/bin/env python3
"""Compares `llama2zh tokenize` with the Python sentencepiece library and with transformers.

  tokenizer_oracle.py LLAMA2ZH_BINARY SHARED_FOLDER

1. Every line of real text of SHARED_FOLDER/data (English, Chinese, JSON, poems) and lines of awkward
   characters: ids and pieces equal sentencepiece's, for LLaMA-2's model, the 55,296 and the merged 49,953.
2. A folder that llama2zh wrote (init-model, from one with an added [PAD] as ymcui's Alpaca has it): AutoTokenizer
   finds the same special ids, vocabulary size and added tokens, and splits at special tokens as
   `tokenize --specials` does, for legacy on and off. Only LLaMA's own vocabulary is compared token by token
   here, and only text without runs of spaces: on others transformers 5's BPE itself differs from sentencepiece.
3. The Jinja chat templates that llama2zh writes (tests/tokenizer/data/chat_jinja.json, which a unit test holds
   equal to the program's) render, in transformers, to the text that their definitions give.

Needs sentencepiece, transformers, protobuf, jinja2. Exit status 0 if all is equal.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import sentencepiece
import transformers
from oracle_program import check_same, failures, run_program

AWKWARD = [
    " ", "  ", "   a  b   c ", "\t", "a\tb", "▁▁x▁", "Ａ１２", "①②③", "𠮷野家", "👩‍👩‍👧‍👦 é é", "\u200b零\u3000宽", "<s>你好</s>",
    "<0x0A><unk>", "2023年12.50元", "………——", "%%%%%%%%%%%%%", "\u00a0x\u00a0", "가나다 ｶﾀｶﾅ", "x" * 3000, "龘靐齉" * 50,
]  # fmt: skip
MARKED = [
    "<s>问：", "<s>[INST] 你好 [/INST]", "a</s>b<s>c", "</s>", "问：答</s>", "[PAD][PAD]x", "x[PAD] y", "<s> a", "a <s>", "plain text",
    "北京是中国的首都。", "Hello world, how are you?",
]  # fmt: skip

def tokenize(binary, model, lines, *flags):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", newline="", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))
        file.flush()
        out = run_program(binary, "tokenize", "--model", model, "--file", file.name, "--json", *flags)
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len(lines), (len(rows), len(lines))
    return rows


def corpus(shared):
    lines = list(AWKWARD)
    for name in sorted((shared / "data/pretrain").iterdir()):
        text = name.read_text(encoding="utf-8-sig").replace("\r\n", "\n").replace("\r", "")
        lines += [line for line in text.split("\n") if line][:400]
    return lines


def compare_with_sentencepiece(binary, model, lines):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    wrong = 0
    for line, row in zip(lines, tokenize(binary, model, lines)):
        ids = reference.encode(line)
        same = row["ids"] == ids and row["pieces"] == [reference.id_to_piece(i) for i in ids]
        wrong += not same
        if not same and wrong <= 5:
            print("line:", line[:60], row["ids"][:20], ids[:20], file=sys.stderr)
    check_same(wrong == 0, f"{model.name}: {wrong} of {len(lines)} lines differ from sentencepiece")
    print(f"{model.name}: {len(lines)} lines compared with sentencepiece {sentencepiece.__version__}")


def edit_json(path, **changes):
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    value.update(changes)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def merge(binary, base, extension, output):
    run_program(binary, "extend-vocab", "--tokenizer", base, "--extension", extension, "--output", output)
    return output


def compare_folder(binary, folder, legacy):
    hf = transformers.AutoTokenizer.from_pretrained(folder)
    size = len(hf)
    # With legacy, transformers 5 drops the prefix before a text that starts with a space; sentencepiece, and with it
    # transformers 4, does not.
    texts = [t for t in MARKED if not (legacy and ("] " in t[:7] and t[0] == "x" or t == "<s> a"))]
    for text in texts:
        ours = tokenize(binary, folder, [text], "--specials")[0]["ids"]
        theirs = hf.encode(text, add_special_tokens=False)
        check_same(ours == theirs, f"legacy {legacy}: {text!r}: ours {ours}, transformers {theirs}")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    check_same(hf.bos_token == config["bos_token"] and hf.bos_token_id == 1, "bos_token")
    check_same(hf.eos_token == config["eos_token"] and hf.eos_token_id == 2, "eos_token")
    check_same(hf.unk_token_id == 0, "unk_token")
    check_same(hf.convert_tokens_to_ids("[PAD]") == size - 1 == hf.pad_token_id, f"[PAD] in {size} tokens")
    print(f"legacy {legacy}: {len(texts)} texts and the special ids compared with transformers "
          f"{transformers.__version__} ({size} tokens)")  # fmt: skip


def empty_extension(folder):
    """A model whose pieces LLaMA has all, so that merging it changes nothing but writes a folder."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    for text, kind in (("<unk>", 2), ("<s>", 3), ("</s>", 3), ("a", 1)):
        model.pieces.add(piece=text, score=0.0, type=kind)
    model.trainer_spec.SetInParent()
    model.normalizer_spec.name = "identity"
    path = folder / "empty.model"
    path.write_bytes(model.SerializeToString())
    return path


def compare_folders(binary, tokenizers, temporary):
    base = tokenizers / "llama2_tokenizer.model"
    folder = merge(binary, base, empty_extension(temporary), temporary / "llama")
    (folder / "added_tokens.json").write_text('{"[PAD]": 32000}', encoding="utf-8")
    entry = {"content": "[PAD]", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    for legacy in (True, False):
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        config["added_tokens_decoder"]["32000"] = entry
        edit_json(folder / "tokenizer_config.json", legacy=legacy, pad_token="[PAD]",
                  added_tokens_decoder=config["added_tokens_decoder"])  # fmt: skip
        edit_json(folder / "special_tokens_map.json", pad_token="[PAD]")
        # Through our reader and writer once more: what we save is what transformers then reads.
        again = temporary / f"again_{legacy}"
        run_program(binary, "init-model", "--tokenizer", folder, "--output", again, "--hidden-size", 8, "--intermediate-size", 8,
            "--num-hidden-layers", 1, "--num-attention-heads", 1, "--num-key-value-heads", 1)  # fmt: skip
        check_same((again / "added_tokens.json").exists(), "added_tokens.json is saved")
        compare_folder(binary, again, legacy)


META = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
)
ZH = "You are a helpful assistant. 你是一个乐于助人的助手。"


def rendered(name, system, q1, a1, q2):
    """A dialogue up to its second answer, in the form of the template called `name`. Where a system encodes the answer
    as a text of its own, its dummy prefix is the space in front of it here."""
    if name == "v0.1":
        return (f"<s>\nhuman:\n{q1.strip()}\n</s><s>\nassistant:\n{a1.strip()}\n</s>"
                f"<s>\nhuman:\n{q2.strip()}\n</s><s>\nassistant:\n")  # fmt: skip
    if name == "v0.2":
        block = f"<<SYS>>\n{META if system is None else system}\n<</SYS>>" if system != "" else ""
        return f"<s>[INST]{block}\n{q1.strip()}\n[/INST]\n{' ' + a1.strip()}</s><s>[INST]\n{q2.strip()}\n[/INST]\n"
    if name == "vllm":
        return f"<s>问：\n{q1}\n答：\n{a1}</s><s>问：\n{q2}\n答：\n"
    if name == "llama2":
        first = ((f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else "") + q1).strip()
        return f"<s>[INST] {first} [/INST] {a1.strip()} </s><s>[INST] {q2.strip()} [/INST]"
    if name == "llama2_zh":
        block = f"<<SYS>>\n{ZH if system is None else system}\n<</SYS>>\n\n" if system != "" else ""
        return f"<s>[INST] {block}{q1} [/INST] {a1}</s><s>[INST] {q2} [/INST]"
    if name == "chatml":
        block = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
        return (f"<s>{block}<|im_start|>user\n{q1}<|im_end|>\n<|im_start|>assistant\n{a1}<|im_end|>\n"
                f"<|im_start|>user\n{q2}<|im_end|>\n<|im_start|>assistant\n")  # fmt: skip
    if name == "smollm2":
        default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        text = default if system is None else system
        block = f"<|im_start|>system\n{text}<|im_end|>\n" if text else ""
        return (f"{block}<|im_start|>user\n{q1}<|im_end|>\n<|im_start|>assistant\n{a1}<|im_end|>\n"
                f"<|im_start|>user\n{q2}<|im_end|>\n<|im_start|>assistant\n")  # fmt: skip
    if name == "llama3":
        head = "<|start_header_id|>{}<|end_header_id|>\n\n".format
        block = f"{head('system')}{system}<|eot_id|>" if system else ""
        return (f"<s>{block}{head('user')}{q1.strip()}<|eot_id|>{head('assistant')}{a1.strip()}<|eot_id|>"
                f"{head('user')}{q2}<|eot_id|>{head('assistant')}")  # fmt: skip
    if name == "zephyr":
        block = f"<|system|>\n{system}</s>\n" if system else ""
        return f"{block}<|user|>\n{q1}</s>\n<|assistant|>\n{a1}</s>\n<|user|>\n{q2}</s>\n<|assistant|>\n"
    if name == "alpaca":
        default = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        block = {None: default + "\n\n", "": ""}.get(system, f"{system}\n\n")
        return (f"<s>{block}### Instruction:\n{q1}\n\n### Response:\n{a1}</s>\n\n### Instruction:\n{q2}\n\n"
                f"### Response:\n")  # fmt: skip
    assert name == "plain", name
    return f"<s>{q1} {a1}</s>{q2}"


def compare_chat_templates(folder):
    data = pathlib.Path(__file__).parent.parent / "tokenizer/data/chat_jinja.json"
    templates = json.loads(data.read_text(encoding="utf-8"))
    hf = transformers.AutoTokenizer.from_pretrained(folder)
    q1, a1, q2 = "　你好，'quoted'\n", " 北京\\n😀 ", "How old is it?"
    for name, jinja in templates.items():
        for system in (None, "你是一名导游。", ""):
            if system is not None and name in ("v0.1", "vllm", "plain"):
                continue
            messages = [{"role": "system", "content": system}] if system is not None else []
            for role, content in (("user", q1), ("assistant", a1), ("user", q2)):
                messages.append({"role": role, "content": content})
            text = hf.apply_chat_template(messages, chat_template=jinja, tokenize=False, add_generation_prompt=True)
            check_same(text == rendered(name, system, q1, a1, q2), f"template {name}, system {system!r}: {text!r}")
    print(f"{len(templates)} chat templates rendered")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    binary, shared = sys.argv[1], pathlib.Path(sys.argv[2])
    tokenizers = shared / "data/tokenizers"
    if not tokenizers.exists():
        print(f"skipped: {tokenizers} is not there (set LLAMA2ZH_SHARED)")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as name:
        temporary = pathlib.Path(name)
        merged = merge(binary, tokenizers / "llama2_tokenizer.model", tokenizers / "chinese_sp.model", temporary / "merged")
        lines = corpus(shared)
        for model in (tokenizers / "llama2_tokenizer.model", tokenizers / "chinese_llama2_55296.model",
                      merged / "tokenizer.model"):  # fmt: skip
            compare_with_sentencepiece(binary, model, lines)
        hf = transformers.AutoTokenizer.from_pretrained(merged)
        check_same(len(hf) == 49953, f"transformers sees {len(hf)} tokens, expected 49953")
        compare_folders(binary, tokenizers, temporary)
        compare_chat_templates(merged)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
