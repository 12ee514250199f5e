#!/usr/bin/env python3
"""Loads model folders that llama2zh wrote with transformers and compares the logits.

  usage: model_oracle.py TEST_PROGRAM     (test_model, in the environment that scripts/oracles.sh makes)

The program writes plain, tied and linearly scaled models, sharded, in float32 and bfloat16. In float32 the logits must
agree within 1e-4; in bfloat16 ours must be as near to float32 as transformers' own are (factor 1.5).
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
        return model.eval()(input_ids=ids[None]).logits[0].float()


def check(folder: Path) -> bool:
    expected = load_file(folder / "expected.safetensors")
    config, generation = AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)
    assert generation.bos_token_id == 1 and generation.eos_token_id == 2
    exact = logits_of(folder, expected["ids"], torch.float32)
    difference = (expected["logits"] - exact).abs().max().item()
    limit = 1e-4
    if folder.name.endswith("bfloat16"):
        assert config.dtype == torch.bfloat16
        limit = 1.5 * (logits_of(folder, expected["ids"], torch.bfloat16) - exact).abs().max().item()
    print(f"{folder.name:20} {config.rope_parameters} largest difference {difference:.3g}, limit {limit:.3g}")
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
