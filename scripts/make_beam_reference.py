#!/usr/bin/env python3
"""Writes tests/reference/beams.json: transformers' beam search on stories260K, in fp32.

Each case is a prompt, the options, and the ids of the answers in their order, without prompt, ending ids and padding,
with their scores. Ending ids are EOS and the case's stop_ids, so that beams end on the way.

Usage: make_beam_reference.py --data SHARED/data [--output tests/reference/beams.json]
Needs: transformers, torch, sentencepiece.
"""

import argparse
import json
import pathlib

import sentencepiece
import torch
import transformers

PROMPTS = ["", "Once upon a time, there was a dog", "Lily and Tom went to", "The big red ball"]
CASES = [
    {"num_beams": 2, "max_new_tokens": 40},
    {"num_beams": 4, "max_new_tokens": 40, "n": 4},
    {"num_beams": 4, "max_new_tokens": 60, "stop_ids": ["."], "n": 3},
    {"num_beams": 4, "max_new_tokens": 60, "stop_ids": ["."], "early_stopping": "true", "n": 4},
    {"num_beams": 3, "max_new_tokens": 50, "stop_ids": ["."], "early_stopping": "never", "n": 3},
    {"num_beams": 3, "max_new_tokens": 50, "stop_ids": [".", "!"], "length_penalty": 0.0, "early_stopping": "never", "n": 2},
    {"num_beams": 5, "max_new_tokens": 60, "stop_ids": ["."], "length_penalty": 2.0, "n": 5},
    {"num_beams": 5, "max_new_tokens": 60, "stop_ids": ["."], "length_penalty": -1.0, "early_stopping": "true", "n": 5},
    {"num_beams": 8, "max_new_tokens": 30, "stop_ids": [".", ","], "length_penalty": 0.6, "n": 8},
    {"num_beams": 4, "max_new_tokens": 60, "stop_ids": ["."], "repetition_penalty": 1.3, "n": 2},
    {"num_beams": 4, "max_new_tokens": 60, "stop_ids": ["."], "min_tokens": 12, "n": 2},
]


def answers(model, prompt, case, ends):
    """[(ids, score)] of one case."""
    stopping = {"true": True, "false": False, "never": "never"}[case.get("early_stopping", "false")]
    options = {}
    if "repetition_penalty" in case:
        options["repetition_penalty"] = case["repetition_penalty"]
    if "min_tokens" in case:
        options["min_new_tokens"] = case["min_tokens"]
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False, num_beams=case["num_beams"],
        num_return_sequences=case.get("n", 1), max_new_tokens=case["max_new_tokens"], length_penalty=case.get("length_penalty", 1.0),
        early_stopping=stopping, eos_token_id=ends, pad_token_id=ends[0], return_dict_in_generate=True, output_scores=True, **options)
    result = []
    for row, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
        ids = row[len(prompt):]
        end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        result.append({"ids": ids[:end], "score": score})
    return result


def cases(data):
    folder = data / "weights/stories260K_hf"
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words = sentencepiece.SentencePieceProcessor(model_file=str(data / "tokenizers/tok512_from_bin.model"))
    for number, case in enumerate(CASES):
        for text in PROMPTS:
            prompt = [words.bos_id(), *words.encode(text)] if text else [words.bos_id()]
            stops = [words.piece_to_id(piece) for piece in case.get("stop_ids", [])]
            if words.unk_id() in stops:
                raise SystemExit(f"case {number}: a stop piece is not in the vocabulary")
            yield {**case, "stop_ids": stops, "prompt": prompt, "answers": answers(model, prompt, case, [words.eos_id(), *stops])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "tests/reference/beams.json")
    options = parser.parse_args()
    made = list(cases(options.data))
    text = ",\n".join(json.dumps(case) for case in made)
    versions = json.dumps({"transformers": transformers.__version__, "torch": torch.__version__})
    options.output.write_text(f'{{"versions": {versions}, "cases": [\n{text}\n]}}\n')


if __name__ == "__main__":
    main()
