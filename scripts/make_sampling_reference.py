#!/usr/bin/env python3
"""Writes tests/reference/sampling.json: what transformers makes of logits and of text.

Two parts, both small and committed with the versions that made them:
  sampling    random logits (V = 64) and the same logits after transformers' own processors, for several settings.
              Presence and frequency penalties, which transformers lacks, are computed from their formula
              (logit - presence * [count > 0] - frequency * count, counts over the answer only).
  perplexity  summed nll of two texts under the stories260K model, for windows without and with overlap. The loop
              with overlap is the one of transformers' guide on perplexity, with BOS in front of the text.

Usage: make_sampling_reference.py --data SHARED/data [--output tests/reference/sampling.json]
Needs: transformers, torch, sentencepiece.
"""

import argparse
import json
import pathlib

import sentencepiece
import torch
import transformers
from transformers.generation import logits_process as lp

VOCABULARY = 64
MIXED_TEXT = (
    "从前有一个小女孩，她很喜欢红色的球。\nOnce upon a time, there was a little girl named Lily.  She had a red ball."
)
CONFIGS = [
    {"name": "nothing"},
    {"name": "temperature", "temperature": 0.7},
    {"name": "hot", "temperature": 1.9},
    {"name": "top_k", "temperature": 1.0, "top_k": 5},
    {"name": "top_k_ties", "temperature": 1.0, "top_k": 3, "ties": True},
    {"name": "top_k_beyond", "temperature": 1.0, "top_k": 1000},
    {"name": "top_p", "temperature": 1.0, "top_p": 0.8},
    {"name": "top_p_small", "temperature": 0.5, "top_p": 0.05},
    {"name": "top_p_zero", "temperature": 1.0, "top_p": 0.0},
    {"name": "min_p", "temperature": 1.5, "min_p": 0.05},
    {"name": "min_p_one", "temperature": 1.0, "min_p": 1.0},
    {"name": "repetition", "temperature": 1.0, "repetition_penalty": 1.3},
    {"name": "reward", "temperature": 1.0, "repetition_penalty": 0.8},
    {"name": "presence", "temperature": 1.0, "presence_penalty": 0.6},
    {"name": "frequency", "temperature": 1.0, "frequency_penalty": 0.4},
    {"name": "greedy_penalties", "temperature": 0.0, "repetition_penalty": 1.2, "presence_penalty": 0.5},
    {
        "name": "everything",
        "temperature": 0.8,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
    },
    {"name": "typical", "temperature": 1.0, "typical_p": 0.6},
    {"name": "typical_small", "temperature": 1.3, "typical_p": 0.05},
    {"name": "typical_after_top_k", "temperature": 0.9, "top_k": 12, "typical_p": 0.8},
    {"name": "logit_bias", "temperature": 1.0, "logit_bias": ["3=2.5", "7=-100", "60=0.25"]},
    {"name": "bias_then_repetition", "temperature": 0.7, "logit_bias": ["28=4", "11=-3"], "repetition_penalty": 1.3},
    # What depends on a tokenizer, as ids: "rules".
    {"name": "bad_words", "temperature": 1.0, "rules": {"bad_words": "ends", "ends": [2]}},
    {"name": "min_tokens", "temperature": 1.0, "min_tokens": 20, "rules": {"ends": [2, 5]}},
    {"name": "min_tokens_reached", "temperature": 1.0, "min_tokens": 14, "rules": {"ends": [2, 5]}},
]


def processed(config, logits, prompt, answer):
    """The processors in the order of transformers' generate()."""
    history = torch.tensor([prompt + answer])
    scores = logits[None, :].clone()
    rules = config.get("rules", {})
    if config.get("logit_bias"):
        pairs = [entry.split("=") for entry in config["logit_bias"]]
        bias = {(int(token),): float(value) for token, value in pairs}
        scores = lp.SequenceBiasLogitsProcessor(bias)(history, scores)
    if config.get("repetition_penalty", 1.0) != 1.0:
        scores = lp.RepetitionPenaltyLogitsProcessor(config["repetition_penalty"])(history, scores)
    counts = torch.bincount(torch.tensor(answer), minlength=VOCABULARY).to(torch.float32)
    scores = scores - config.get("presence_penalty", 0.0) * (counts > 0) - config.get("frequency_penalty", 0.0) * counts
    if rules.get("bad_words"):
        scores = lp.NoBadWordsLogitsProcessor(rules["bad_words"], eos_token_id=rules["ends"])(history, scores)
    if config.get("min_tokens", 0) > 0:
        scores = lp.MinNewTokensLengthLogitsProcessor(len(prompt), config["min_tokens"], rules["ends"], "cpu")(
            history, scores
        )
    temperature = config.get("temperature", 1.0)
    if temperature == 0.0:
        return scores[0]
    if temperature != 1.0:
        scores = lp.TemperatureLogitsWarper(temperature)(history, scores)
    if config.get("top_k", 0) > 0:
        scores = lp.TopKLogitsWarper(config["top_k"])(history, scores)
    if config.get("top_p", 1.0) < 1.0:
        scores = lp.TopPLogitsWarper(config["top_p"])(history, scores)
    if config.get("min_p", 0.0) > 0.0:
        scores = lp.MinPLogitsWarper(config["min_p"])(history, scores)
    if config.get("typical_p", 1.0) < 1.0:
        scores = lp.TypicalLogitsWarper(config["typical_p"])(history, scores)
    return scores[0]


def sampling_cases():
    generator = torch.Generator().manual_seed(7)
    cases = []
    for config in CONFIGS:
        logits = torch.randn(VOCABULARY, generator=generator) * 3
        if config.get("ties"):
            logits = (logits / 2).round()
        prompt = torch.randint(0, VOCABULARY, (9,), generator=generator).tolist()
        answer = torch.randint(0, 12, (14,), generator=generator).tolist()
        if config.get("rules", {}).get("bad_words") == "ends":
            # Alone, continuing the text, and not continuing it.
            words = [[9], [*answer[-2:], 31], [answer[-1], 32], [63, 33], [answer[-1] + 1, answer[-1], 34]]
            config = {**config, "rules": {**config["rules"], "bad_words": words}}
        result = processed(config, logits, prompt, answer)
        cases.append(
            {
                "name": config["name"],
                "config": {k: v for k, v in config.items() if k not in ("name", "ties", "rules")},
                **({"rules": config["rules"]} if "rules" in config else {}),
                "prompt": prompt,
                "answer": answer,
                "logits": [float(f"{x:.9g}") for x in logits.tolist()],
                # JSON has no infinity: null stands for a filtered token.
                "processed": [None if x == float("-inf") else float(f"{x:.9g}") for x in result.tolist()],
            }
        )
    return cases


def nll_of(model, ids, labels):
    """Summed nll of the positions whose label is not -100."""
    scored = sum(1 for label in labels[1:] if label != -100)
    with torch.no_grad():
        loss = model(torch.tensor([ids]), labels=torch.tensor([labels])).loss
    return loss.item() * scored, scored


def nll_without_overlap(model, bos, ids, window):
    total, scored = 0.0, 0
    for begin in range(0, len(ids), window):
        chunk = ids[begin : begin + window]
        nll, count = nll_of(model, [bos] + chunk, [-100] + chunk)
        total, scored = total + nll, scored + count
    return total, scored


def nll_with_overlap(model, bos, ids, window, stride):
    stream = [bos] + ids
    total, scored, previous_end = 0.0, 0, 0
    for begin in range(0, len(stream), stride):
        end = min(begin + window, len(stream))
        targets = end - previous_end
        part = stream[begin:end]
        labels = [-100] * (len(part) - targets) + part[len(part) - targets :]
        nll, count = nll_of(model, part, labels)
        total, scored, previous_end = total + nll, scored + count, end
        if end == len(stream):
            break
    return total, scored


def perplexity_cases(data):
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(data / "tokenizers/tok512_from_bin.model"))
    model = transformers.LlamaForCausalLM.from_pretrained(data / "weights/stories260K_hf", dtype=torch.float32).eval()
    golden = (data / "weights/stories260K_golden.txt").read_text()
    cases = []
    for name, text in (("golden", golden), ("mixed", MIXED_TEXT)):
        ids = tokenizer.encode(text)
        for window, stride in ((512, 512), (64, 64), (64, 32), (64, 7)):
            if window == stride:
                nll, scored = nll_without_overlap(model, tokenizer.bos_id(), ids, window)
            else:
                nll, scored = nll_with_overlap(model, tokenizer.bos_id(), ids, window, stride)
            case = {"text": name, "window": window, "stride": stride, "tokens": scored, "nll": nll}
            if name == "mixed":
                case["content"] = text
            cases.append(case)
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with tokenizers/ and weights/")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("tests/reference/sampling.json"))
    args = parser.parse_args()
    reference = {
        "versions": {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "sentencepiece": sentencepiece.__version__,
        },
        "sampling": sampling_cases(),
        "perplexity": perplexity_cases(args.data),
    }
    args.output.write_text(json.dumps(reference, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
