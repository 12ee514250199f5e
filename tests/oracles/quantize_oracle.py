#!/usr/bin/env python3
"""Quantized folders beside plain references in NumPy and torch, with transformers for the model.

  quantize_oracle.py LLAMA2ZH SOURCE_DIR SHARED_FOLDER

1. quantize --method awq on a tiny model: alphas, folded norms and dequantized weights are those of Lin et al.'s search written
   out here, over the inputs that transformers' layers see.
2. Folders in GPTQ's (both checkpoint formats, act-order, 8 bits) and AWQ's layout, packed here number by number: convert gives
   exactly the numbers they mean, and greedy answers are those of transformers with these numbers.
3. convert --to gptq: unpacked here, it holds exactly what the quantized folder does.
4. stories260K, int4 in groups of 32, text of its own making: perplexity of awq <= rtn, and of awq and gptq <= llama.cpp's Q4_0
   on the same matrices; int8 within 0.2 % on so little text (skipped without the shared data).
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from oracle_program import Program, check_same, failures
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

INPUTS = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
GROUP = 32
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
PACKED = {
    "gptq": dict(method="gptq", bits=4, symmetric=True),
    "gptq_act_order": dict(method="gptq", bits=4, act_order=True),
    "gptq_v2": dict(method="gptq", bits=4, v2=True),
    "gptq_int8": dict(method="gptq", bits=8, act_order=True),
    "awq_gemm": dict(method="awq", bits=4),
}


def grouped(weight):
    out, width = weight.shape
    groups = -(-width // GROUP)
    padded = torch.zeros(out, groups * GROUP)
    padded[:, :width] = weight
    return padded.view(out, groups, GROUP)


def rounded(weight, scales):
    """To the nearest of scale * (-8 ... 7); scales [out, groups]."""
    scale = scales.unsqueeze(-1)
    safe = torch.where(scale != 0, scale, torch.ones(()))
    codes = torch.where(scale != 0, (grouped(weight) / safe).round().clamp(-8, 7), torch.zeros(()))
    return (codes * scale).view(weight.shape[0], -1)[:, : weight.shape[1]]


def largest_scales(weight):
    return (grouped(weight).abs().amax(-1) / 7).half().float()


def searched_scales(weight, importance):
    """Of the clipped ends, either sign, the scale with the least weighted squared error."""
    groups, weights = grouped(weight), grouped(importance[None])
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    best, least = torch.zeros_like(extreme), torch.full_like(extreme, float("inf"))
    for step in range(20):
        shrunk = extreme * (1 - 0.025 * step)
        for candidate in (shrunk / -8, shrunk.abs() / 7):
            scale = candidate.half().float()
            safe = torch.where(scale != 0, scale, torch.ones(()))
            error = (weights * (groups - (groups / safe).round().clamp(-8, 7) * safe) ** 2).sum(-1, keepdim=True)
            better = (scale != 0) & (error < least)
            best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best[..., 0]


def inputs_of(model, layer, sequences):
    """The rows that each of INPUTS sees, [tokens, width]."""
    rows, hooks = [[] for _ in INPUTS], []
    for place, names in enumerate(INPUTS):
        module = model.get_submodule(f"model.layers.{layer}.{names[0]}")
        hooks.append(module.register_forward_pre_hook(lambda _, args, place=place: rows[place].append(args[0].reshape(-1, args[0].shape[-1]))))
    for sequence in sequences:
        model.model(torch.tensor([sequence]))
    for hook in hooks:
        hook.remove()
    return [torch.cat(part) for part in rows]


def awq(model, sequences):
    """Quantizes the model's layers in place; alphas by module."""
    config, alphas = model.config, {}
    shared = config.num_attention_heads // config.num_key_value_heads
    heads = (config.num_key_value_heads, shared, -1)
    for index in range(config.num_hidden_layers):
        layer, prefix = model.model.layers[index], f"model.layers.{index}."
        rows = inputs_of(model, index, sequences)
        for place, names in enumerate(INPUTS):
            weights, x = [layer.get_submodule(name).weight for name in names], rows[place]
            magnitudes = x.abs().mean(0)
            if place == 1:
                magnitudes = magnitudes.view(heads).mean(1, keepdim=True).expand(-1, shared, -1).reshape(-1)
            found = []
            for step in range(20):
                scales = magnitudes.clamp(min=1e-4) ** (step / 20)
                scales = scales / (scales.max() * scales.min()).sqrt()
                error = 0.0
                for weight in weights:
                    change = rounded(weight * scales, largest_scales(weight * scales)) / scales - weight
                    error += (x @ change.T).double().square().sum().item()
                found.append((error, step / 20, scales))
            error, alpha, scales = min(found, key=lambda each: each[0])
            alphas[prefix + names[0]] = alpha
            for weight in weights:
                weight.mul_(scales)
            [lambda s: layer.input_layernorm.weight.div_(s), lambda s: layer.self_attn.v_proj.weight.div_(s.view(heads)[:, 0].reshape(-1)[:, None]),
             lambda s: layer.post_attention_layernorm.weight.div_(s), lambda s: layer.mlp.up_proj.weight.div_(s[:, None])][place](scales)
            rows[place] = x / scales
        for place, names in enumerate(INPUTS):
            importance = rows[place].square().sum(0)
            importance = importance + 0.01 * importance.mean()
            for name in names:
                weight = layer.get_submodule(name).weight
                weight.copy_(rounded(weight, searched_scales(weight, importance)))
    return alphas


def load_model(folder):
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def sequences_of(pieces, texts, most, length):
    ids = [i for text in texts for i in pieces.encode(text)][:most]
    return [[1, *ids[begin : begin + length - 1]] for begin in range(0, len(ids), length - 1)]


def check_awq(program):
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(program.folder / "zh.model"))
    texts = [json.loads(line)["text"] for line in (program.folder / "calibration.jsonl").read_text(encoding="utf-8").splitlines()]
    report = json.loads(program.run("quantize", "--model", "model", "--method", "awq", "--bits", 4, "--group-size", GROUP, "--calibration",
                                    "calibration.jsonl", "--calibration-tokens", 2048, "--activations", "float", "--output", "awq", "--json"))
    program.run("convert", "--input", "awq", "--output", "awq-plain", "--dtype", "float32")
    model = load_model(program.folder / "model")
    alphas = awq(model, sequences_of(pieces, texts, 2048, 256))
    check_same(report["awq_alphas"] == alphas, f"alphas: {report['awq_alphas']}, here {alphas}")
    check_same(len({*alphas.values()}) > 2 and max(alphas.values()) > 0, f"alphas are all alike: {alphas}")
    ours, worst = load_file(program.folder / "awq-plain/model.safetensors"), 0.0
    for name, weight in model.named_parameters():
        if name == "lm_head.weight" and name not in ours:
            continue
        far = (ours[name] - weight).abs() > 1e-3 * weight.abs().max()
        worst = max(worst, far.float().mean().item())
    check_same(worst < 0.01, f"{worst:.2%} of a weight's elements differ")
    print(f"awq: alphas {sorted(alphas.values())}; at most {worst:.3%} of a weight's codes differ (ties)")


def words_of_rows(values, bits, order):
    n = 32 // bits
    parts = values.astype(np.uint32).reshape(len(values), -1, n)[:, :, order]
    return np.bitwise_or.reduce(parts << (np.arange(n, dtype=np.uint32) * bits), axis=2)


def pack(shape, random, method, bits, symmetric=False, act_order=False, v2=False):
    """Tensors of one module, and the weight that they mean, which float16 arithmetic gives."""
    out, width = shape
    groups, top, n = -(-width // GROUP), 1 << bits, 32 // bits
    codes = random.integers(0, top, (width, out))
    zeros = np.full((groups, out), top // 2) if symmetric else random.integers(1, top, (groups, out))
    scales = (random.uniform(0.01, 0.05, (groups, out)) * 16 / top).astype(np.float16)
    index = np.arange(width) // GROUP
    if act_order:
        index = index[random.permutation(width)]
    weight = (codes - zeros[index]) * scales[index].astype(np.float32)
    if method == "awq":
        parts = {"qweight": words_of_rows(codes, bits, AWQ_ORDER), "qzeros": words_of_rows(zeros, bits, AWQ_ORDER)}
    else:
        stored = zeros if v2 else zeros - 1
        parts = {"qweight": words_of_rows(codes.T, bits, range(n)).T, "qzeros": words_of_rows(stored, bits, range(n)),
                 "g_idx": index.astype(np.int32)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(part).view(np.int32)) for name, part in parts.items()}
    return {**tensors, "scales": torch.from_numpy(scales)}, torch.from_numpy(np.ascontiguousarray(weight.T).astype(np.float32))


def check_packed(program):
    source = load_file(program.folder / "model/model.safetensors")
    for name, kind in PACKED.items():
        random, packed, plain = np.random.default_rng(len(name)), {}, dict(source)
        for key, weight in source.items():
            if not key.endswith("_proj.weight"):
                packed[key] = weight
                continue
            parts, plain[key] = pack(weight.shape, random, **kind)
            packed |= {f"{key.removesuffix('weight')}{part}": tensor for part, tensor in parts.items()}
        for folder, tensors in ((name, packed), (f"{name}-numbers", plain)):
            shutil.copytree(program.folder / "model", program.folder / folder)
            (program.folder / folder / "llama2zh_manifest.json").unlink(missing_ok=True)
            save_file(tensors, program.folder / folder / "model.safetensors", {"format": "pt"})
        file = program.folder / name / "config.json"
        settings = {"quant_method": kind["method"], "bits": kind["bits"], "group_size": GROUP, "activations": "float"}
        if kind["method"] == "gptq":
            settings |= {"desc_act": kind.get("act_order", False), "sym": kind.get("symmetric", False),
                         "checkpoint_format": "gptq_v2" if kind.get("v2") else "gptq"}
        else:
            settings |= {"zero_point": True, "version": "gemm"}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": settings}))
        program.run("convert", "--input", name, "--output", f"{name}-plain", "--dtype", "float32")
        ours = load_file(program.folder / f"{name}-plain/model.safetensors")
        for key, weight in plain.items():
            check_same(torch.equal(ours[key], weight), f"{name}: {key}")
        model = load_model(program.folder / f"{name}-numbers")
        text = "什么是机器学习？"
        prompt = [1, *json.loads(program.run("tokenize", "--model", "zh.model", "--text", text, "--json"))["ids"]]
        expected = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
                                  max_new_tokens=24, eos_token_id=2, pad_token_id=2)[0].tolist()[len(prompt) :]
        expected = expected[: expected.index(2)] if 2 in expected else expected
        got = json.loads(program.run("generate", "--model", name, "--raw", "--prompt", text, "--json", "--temperature", 0, "--dtype", "float32",
                                     "--max-new-tokens", 24))
        check_same(got["ids"] == expected, f"{name}: {got['ids']}, transformers {expected}")
    print(f"packed: {len(PACKED)} layouts")


def unpack_gptq(tensors, module, bits):
    places = np.arange(32 // bits, dtype=np.uint32) * bits
    words = lambda name: tensors[f"{module}.{name}"].view(np.uint32)[..., None] >> places & ((1 << bits) - 1)
    codes = words("qweight").transpose(0, 2, 1).reshape(-1, tensors[f"{module}.scales"].shape[1])
    zeros = words("qzeros").reshape(len(tensors[f"{module}.scales"]), -1) + 1
    index = tensors[f"{module}.g_idx"]
    return ((codes.astype(np.int64) - zeros[index]) * tensors[f"{module}.scales"].astype(np.float32)[index]).T


def check_export(program):
    for bits in (4, 8):
        name = f"int{bits}"
        program.run("quantize", "--model", "model", "--bits", bits, "--group-size", GROUP, "--output", name)
        program.run("convert", "--input", name, "--output", f"{name}-plain", "--dtype", "float32")
        program.run("convert", "--input", name, "--output", f"{name}-gptq", "--to", "gptq")
        plain, packed = load_numpy(program.folder / f"{name}-plain/model.safetensors"), load_numpy(program.folder / f"{name}-gptq/model.safetensors")
        settings = json.loads((program.folder / f"{name}-gptq/config.json").read_text())["quantization_config"]
        check_same((settings["quant_method"], settings["bits"], settings["group_size"]) == ("gptq", bits, GROUP), f"settings: {settings}")
        for key, weight in plain.items():
            module = key.removesuffix(".weight")
            same = (packed[key] == weight).all() if key in packed else (unpack_gptq(packed, module, bits) == weight).all()
            check_same(same, f"{name} in GPTQ's layout: {key}")
    print("export: int4 and int8 in GPTQ's layout")


def q4_0(weight):
    """The last block of a row is filled up with zeros; llama.cpp would leave such a matrix in F16, which is not the same bits."""
    kind, blocks = gguf.GGMLQuantizationType.Q4_0, grouped(weight).reshape(len(weight), -1)
    numbers = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(blocks.numpy(), kind), kind))
    return numbers[:, : weight.shape[1]]


def perplexity(model, sequences):
    total, count = 0.0, 0
    for sequence in sequences:
        ids = torch.tensor([sequence])
        scores = model(ids[:, :-1]).logits[0].log_softmax(-1)
        total -= scores.gather(1, ids[0, 1:, None]).double().sum().item()
        count += len(sequence) - 1
    return np.exp(total / count)


def check_stories(program, shared):
    source, tokenizer = shared / "data/weights/stories260K_hf", shared / "data/tokenizers/tok512_from_bin.model"
    if not source.exists():
        print(f"stories260K: skipped, there is no {source}")
        return
    model, pieces = load_model(source), sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    torch.manual_seed(0)
    drawn = model.generate(torch.ones(72, 1, dtype=torch.long), attention_mask=torch.ones(72, 1, dtype=torch.long), do_sample=True, top_k=0,
                           temperature=1.0, max_new_tokens=400, eos_token_id=2, pad_token_id=2, bos_token_id=1)[:, 1:].tolist()
    texts = [pieces.decode([i for i in row if i > 2]) for row in drawn]
    for name, part in (("stories-calibration", texts[:36]), ("stories", texts[36:])):
        (program.folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part), encoding="utf-8")
    sequences = sequences_of(pieces, texts[36:], 12000, 513)
    before = perplexity(model, sequences)
    figures = {}
    for layer in model.model.layers:
        for names in INPUTS:
            for name in names:
                weight = layer.get_submodule(name).weight
                weight.copy_(q4_0(weight))
    figures["q4_0"] = perplexity(model, sequences)
    for name, flags in {"int8": ["--bits", 8], "rtn": [], "awq": ["--method", "awq"], "gptq": ["--method", "gptq"]}.items():
        if name != "int8":
            flags = ["--bits", 4, "--group-size", 32, *flags]
        if "--method" in flags:
            flags += ["--calibration", "stories-calibration.jsonl"]
        report = json.loads(program.run("quantize", "--model", source, "--tokenizer", tokenizer, "--output", f"stories-{name}", "--evaluate",
                                        "stories.jsonl", "--evaluate-tokens", 12000, "--json", *flags))["evaluation"][0]
        figures[name] = report["perplexity"]
        check_same(abs(report["source_perplexity"] / before - 1) < 1e-5, f"perplexity {report['source_perplexity']}, transformers {before}")
    print(f"stories260K: perplexity {before:.4f};", ", ".join(f"{name} {value:.4f} ({value / before - 1:+.2%})" for name, value in figures.items()))
    check_same(figures["awq"] <= figures["rtn"], "awq is worse than rounding")
    check_same(max(figures["awq"], figures["gptq"]) <= figures["q4_0"], "int4 is worse than Q4_0")
    check_same(abs(figures["int8"] / before - 1) < 2e-3, "int8 is more than 0.2 % away")


@torch.no_grad()
def main():
    with tempfile.TemporaryDirectory() as folder:
        program = Program(sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(folder))
        turns = program.write_turns()
        (program.folder / "calibration.jsonl").write_text("".join(json.dumps({"text": turn}) + "\n" for turn in turns), encoding="utf-8")
        program.make_model("model")
        check_awq(program)
        check_packed(program)
        check_export(program)
        check_stories(program, pathlib.Path(sys.argv[3]))
    print(f"{len(failures)} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
