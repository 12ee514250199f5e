#!/usr/bin/env python3
"""Loads model folders that llama2zh wrote with transformers and compares the logits.

  usage: model_oracle.py TEST_PROGRAM     (test_model, in the environment that scripts/oracles.sh makes)

The program writes plain, tied and linearly scaled models, sharded, in float32 and bfloat16. In float32 the logits must
agree within 1e-4; in bfloat16 the root mean square of their distance from float32 may be 10 % above transformers' own.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig


def logits_of(folder: Path, ids: torch.Tensor, dtype) -> torch.Tensor:
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits.float()


def rms(x: torch.Tensor) -> float:
    return x.square().mean().sqrt().item()


def check(folder: Path) -> bool:
    expected = load_file(folder / "expected.safetensors")
    config, generation = AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)
    assert generation.bos_token_id == 1 and generation.eos_token_id == 2
    exact = logits_of(folder, expected["ids"], torch.float32)
    difference, limit = (expected["logits"] - exact).abs().max().item(), 1e-4
    if folder.name.endswith("bfloat16"):
        assert config.dtype == torch.bfloat16
        theirs = logits_of(folder, expected["ids"], torch.bfloat16)
        difference, limit = rms(expected["logits"] - exact), 1.1 * rms(theirs - exact)
    print(f"{folder.name:20} {config.rope_parameters} difference {difference:.3g}, limit {limit:.3g}")
    return difference <= limit


def main() -> None:
    with tempfile.TemporaryDirectory() as target:
        subprocess.run([sys.argv[1], "--gtest_filter=Oracle.*"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "LLAMA2ZH_ORACLE_FOLDER": target})
        folders = sorted(Path(target).iterdir())
        results = [check(folder) for folder in folders]
    if len(results) != 6 or not all(results):
        sys.exit("transformers and llama2zh disagree")


if __name__ == "__main__":
    main()
